//! A small file system that can be filled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A disk of 16 megabytes.
pub struct Disk {
    place: TempDir,
    pub mounted: bool,
}

impl Disk {
    /// Where none can be mounted, a folder of the large one, which is never full.
    pub fn mount() -> Self {
        let place = super::folder();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"])
            .arg(place.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("SKIPPED: no small disk can be mounted here, so none is full; that takes root, and Linux");
        }
        Self { place, mounted }
    }

    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Leaves so many bytes free.
    pub fn fill(&self, left: usize) {
        let space = rustix::fs::statvfs(self.path()).unwrap();
        let free = (space.f_bavail * space.f_frsize) as usize;
        fs::write(self.ballast(), vec![1; free.saturating_sub(left)]).unwrap();
    }

    pub fn empty(&self) {
        let _ = fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg(self.path()).status();
        }
    }
}

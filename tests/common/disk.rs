//! A small file system that can be filled.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A disk of 32 megabytes.
pub struct Disk {
    place: TempDir,
    pub mounted: bool,
}

impl Disk {
    /// Where none can be mounted, a folder of the large one, which is never full.
    pub fn mount() -> Self {
        let place = super::folder();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"])
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

    /// Leaves so many bytes free. A program under test may be writing meanwhile, so what is free is not asked for:
    /// the ballast grows until nothing is, then shrinks.
    pub fn fill(&self, left: usize) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let page = [1; 4096];
        let error = loop {
            if let Err(error) = ballast.write_all(&page) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length.saturating_sub(left as u64)).unwrap();
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

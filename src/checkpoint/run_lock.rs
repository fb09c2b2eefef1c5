//! The lock of a run: only one process trains it at a time, and it saves into the locked folder even if that is renamed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};
use rustix::process::Pid;

use crate::disk::files::path_of_folder;
use crate::disk::hint::with_hint;
use crate::disk::unfinished::is_at;

/// The process that trains the run in `folder`, if one does.
pub(super) fn holder(folder: &Path) -> Option<u32> {
    let path = folder.join(LOCK);
    let number = pid_in(&path)?;
    let pid = Pid::from_raw(i32::try_from(number).ok()?)?;
    // The lock is only tried where that process lives, so that no training that begins finds it taken by this one.
    let lives = rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH);
    let held = lives && matches!(File::open(&path).ok()?.try_lock_shared(), Err(TryLockError::WouldBlock));
    held.then_some(number)
}

/// The number that the holder of a lock wrote into it.
fn pid_in(lock: &Path) -> Option<u32> {
    fs::read_to_string(lock).ok()?.trim().parse().ok()
}

pub(super) const LOCK: &str = ".lock";

/// Held while this program trains a run.
#[derive(Debug)]
pub(super) struct RunLock {
    _file: File,
    /// An open handle of the folder, which survives renaming.
    folder: File,
}

impl RunLock {
    /// Locks a run; `new` tells whether it is being created rather than resumed.
    ///
    /// # Errors
    /// Another process, which is named, trains the run; or files cannot be written or locked there.
    pub fn acquire(folder: &Path, new: bool) -> Result<Self> {
        let path = folder.join(LOCK);
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let mut file = opened.map_err(|error| match new {
            true => Error::from(error).context(format!("{} cannot be written; choose another --out", path.display())),
            false => with_hint(error.into(), format_args!("{} cannot be written", path.display())),
        })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let number = pid_in(&path);
                bail!(
                    "run {} is being trained by another process{}; wait for it to finish, or stop it",
                    folder.display(),
                    number.map_or(String::new(), |number| format!(" (PID {number})"))
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| {
                    format!(
                        "{} cannot be locked; use a file system that supports locks for the run",
                        path.display()
                    )
                });
            }
        }
        // Only for the message above: the lock holds even on a full disk.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self {
            _file: file,
            folder: File::open(folder).with_context(|| format!("run folder {} cannot be read", folder.display()))?,
        })
    }

    /// The current path of the locked folder, whose last known path is `last`.
    ///
    /// # Errors
    /// It was removed.
    pub fn current_path(&self, last: &Path) -> Result<PathBuf> {
        if is_at(&self.folder, last) {
            return Ok(last.to_owned());
        }
        let path = path_of_folder(&self.folder)
            .with_context(|| format!("run folder {} was removed while it was trained", last.display()))?;
        ensure!(
            is_at(&self.folder, &path),
            "run folder {} was moved to an unreachable path",
            last.display()
        );
        Ok(path)
    }
}

//! Temporary files and folders, named after the process that writes them and locked while it lives.
//!
//! A process that dies leaves them behind without a lock; the next process that writes in that folder removes them.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Prefix of temporary names; followed by the process id and the final name.
const TEMP_PREFIX: &str = ".making-";

/// Attempts to claim a name.
const TRIES: usize = 100;

/// A temporary file or folder. It is removed when dropped, unless it is published.
pub struct Unfinished {
    path: PathBuf,
    /// Locked: shows other processes that the entry is in use.
    lock: File,
    published: bool,
}

impl Unfinished {
    /// An empty file beside `dest`.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn file(dest: &Path) -> Result<Self> {
        let create = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path).map(drop);
        Self::claim(dest, create)
    }

    /// An empty folder beside `dest`.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn folder(dest: &Path) -> Result<Self> {
        Self::claim(dest, |path| fs::create_dir(path))
    }

    fn claim(dest: &Path, create: impl Fn(&Path) -> io::Result<()>) -> Result<Self> {
        remove_abandoned(super::durable::parent(dest));
        let path = temp_path(dest)?;
        // Before it is locked, another process may remove it as stale, or be about to.
        for _ in 0..TRIES {
            match create(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
                created => created?,
            }
            let lock = match File::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let locked = lock.try_lock();
            if !matches!(locked, Err(TryLockError::WouldBlock)) && is_at(&lock, &path) {
                return Ok(Self {
                    path,
                    lock,
                    published: false,
                });
            }
        }
        Err(concurrent_writer_error())
    }

    /// The temporary path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that no other process is writing `dest`. Of two that begin at once, the one with the higher process id gives up,
    /// which the other waits for.
    ///
    /// # Errors
    /// Another one is.
    pub fn ensure_alone(&self, dest: &Path) -> Result<()> {
        for _ in 0..TRIES {
            match other_writers(dest).max() {
                None => return Ok(()),
                Some(other) if other < std::process::id() => break,
                Some(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
        Err(concurrent_writer_error())
    }

    /// Syncs it, renames it to its final name, and syncs the folder.
    ///
    /// # Errors
    /// The disk cannot be written.
    pub fn publish(mut self, dest: &Path) -> Result<()> {
        self.lock.sync_all()?;
        fs::rename(&self.path, dest)?;
        self.published = true;
        super::durable::sync_folder(super::durable::parent(dest))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.published {
            let _ = remove(&self.path);
        }
    }
}

/// The ids of the other processes that are writing `dest`.
fn other_writers(dest: &Path) -> impl Iterator<Item = u32> {
    let name = name(dest);
    unfinished_in(super::durable::parent(dest)).filter_map(move |path| {
        let (process, of) = parse_temp_name(path.file_name()?)?;
        (process != std::process::id() && of == name && is_locked(&path)).then_some(process)
    })
}

fn concurrent_writer_error() -> anyhow::Error {
    anyhow::anyhow!("another process is writing it; wait for it to finish, or choose another path")
}

/// The temporary path for `dest`.
///
/// # Errors
/// `dest` has no file name.
pub fn temp_path(dest: &Path) -> Result<PathBuf> {
    ensure!(dest.file_name().is_some(), "a path to write needs a name");
    Ok(dest.with_file_name(format!("{TEMP_PREFIX}{}-{}", std::process::id(), name(dest))))
}

/// Whether that is a temporary name.
pub fn is_unfinished(name: &OsStr) -> bool {
    parse_temp_name(name).is_some()
}

/// Removes stale temporary entries of dead processes in `folder`. Those that cannot be removed stay: they may be another
/// user's.
pub fn remove_abandoned(folder: &Path) {
    for path in unfinished_in(folder) {
        let Ok(file) = open(&path) else { continue };
        // Held until it is removed, so that no process claims it in the meantime.
        if file.try_lock().is_ok() && is_at(&file, &path) {
            let _ = remove(&path);
        }
    }
}

/// As [`remove_abandoned`], but in a folder that only this process writes to, and including links, which cannot be locked.
///
/// # Errors
/// Something cannot be removed.
pub fn remove_all(folder: &Path) -> Result<()> {
    for path in unfinished_in(folder) {
        remove(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    Ok(())
}

fn unfinished_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| is_unfinished(&entry.file_name()))
        .map(|entry| entry.path())
}

/// The process id and the final name in a temporary name.
fn parse_temp_name(name: &OsStr) -> Option<(u32, String)> {
    let name = name.to_string_lossy();
    let (process, of) = name.strip_prefix(TEMP_PREFIX)?.split_once('-')?;
    Some((process.parse().ok()?, of.to_owned()))
}

fn name(dest: &Path) -> String {
    dest.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_locked(path: &Path) -> bool {
    open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Opens a file or folder; links can't be locked, and opening a pipe would block.
fn open(path: &Path) -> io::Result<File> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if kind.is_file() || kind.is_dir() {
        File::open(path)
    } else {
        Err(ErrorKind::InvalidInput.into())
    }
}

/// Whether an open file or folder is at that path.
pub fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_nobody_writes_any_more_goes_and_all_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path(".making-7-model.gguf"), "half").unwrap();
        fs::create_dir(path(".making-7-model")).unwrap();
        fs::write(path(".making-7-model/config.json"), "half").unwrap();
        for other in [".making-jam", ".making--x", "making-7-x", ".making-7"] {
            fs::write(path(other), "a user's own").unwrap();
        }
        let kept = Unfinished::folder(&path("kept")).unwrap();
        assert!(!path(".making-7-model.gguf").exists() && !path(".making-7-model").exists());
        Unfinished::file(&path("other"))
            .unwrap()
            .publish(&path("other"))
            .unwrap();
        assert!(kept.path().exists(), "what is being written is no remainder");
        drop(kept);
        assert_eq!(
            names(folder.path()),
            [".making--x", ".making-7", ".making-jam", "making-7-x", "other"]
        );
    }

    #[test]
    fn of_two_writers_of_one_place_one_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("model.gguf");
        // As another process would have it.
        let theirs = folder.path().join(".making-7-model.gguf");
        let lock = File::create(&theirs).unwrap();
        lock.try_lock().unwrap();
        let ours = Unfinished::file(&dest).unwrap();
        let error = ours.ensure_alone(&dest).unwrap_err().to_string();
        assert!(error.contains("another process is writing it"), "{error}");
        drop(lock);
        ours.ensure_alone(&dest).unwrap();
    }

    /// Each sees the other: one gives up, and the other one writes.
    #[test]
    fn of_two_that_begin_at_once_one_writes() {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("model.gguf");
        let ours = Unfinished::file(&dest).unwrap();
        let theirs = folder.path().join(format!(".making-{}-model.gguf", u32::MAX));
        let lock = File::create(&theirs).unwrap();
        lock.try_lock().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(5));
                drop(lock); // as it gives up
            });
            ours.ensure_alone(&dest).unwrap();
        });

        let lock = File::open(&theirs).unwrap();
        lock.try_lock().unwrap();
        assert!(ours.ensure_alone(&dest).is_err(), "it was there before");
    }
}

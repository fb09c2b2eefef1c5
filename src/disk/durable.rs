//! Atomic writes: a file or folder is either complete or absent, also after a crash.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, ensure};

use super::hint::with_hint;
use super::unfinished::{self, Unfinished};

/// Creates a folder atomically: `fill` writes into a temporary folder beside `path`, which is synced and renamed. An empty
/// folder at `path` is replaced.
///
/// # Errors
/// Those of `fill`; something else is at `path`; another process is writing it; the disk cannot be written.
pub fn write_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temp = Unfinished::folder(path)?;
    temp.ensure_alone(path)?;
    fill(temp.path())?;
    for entry in fs::read_dir(temp.path())? {
        File::open(entry?.path())?.sync_all()?;
    }
    let is_empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    ensure!(
        path.symlink_metadata()
            .map_or(true, |found| found.is_dir() && is_empty(path)),
        "something else was created under that name in the meantime; move it away, or choose another path"
    );
    temp.publish(path)
}

/// Checks that there is nothing at `path` yet.
///
/// # Errors
/// Something is at `path`.
pub fn ensure_free(path: &Path) -> Result<()> {
    ensure!(
        path.symlink_metadata().is_err(),
        "{} exists already; choose another --out",
        path.display()
    );
    Ok(())
}

/// Guard for newly created folders: removes those that are still empty when it is dropped.
#[must_use = "they are removed again when this is dropped and they are still empty"]
pub struct MadeFolders(Vec<PathBuf>);

impl Drop for MadeFolders {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Creates a folder and its missing parents.
///
/// # Errors
/// They cannot be created.
pub fn make_folder(folder: &Path) -> Result<MadeFolders> {
    let mut missing: Vec<PathBuf> = folder
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .map(Path::to_owned)
        .collect();
    if missing.is_empty() {
        return Ok(MadeFolders(missing));
    }
    missing.reverse();
    fs::create_dir_all(folder).with_context(|| format!("folder {} cannot be made", folder.display()))?;
    let made = MadeFolders(missing);
    for folder in &made.0 {
        sync_folder(parent(folder))?;
    }
    Ok(made)
}

/// Creates the parent folders of a path.
///
/// # Errors
/// They cannot be created.
pub fn make_parents(path: &Path) -> Result<MadeFolders> {
    make_folder(parent(path))
}

/// Replaces a file's contents atomically.
///
/// # Errors
/// The disk cannot be written.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    Unfinished::file(path)
        .and_then(|temp| {
            fs::write(temp.path(), contents)?;
            temp.publish(path)
        })
        .map_err(not_written(path))
}

/// Creates a file atomically: `fill` writes a temporary file beside `path`, which is synced and renamed.
///
/// # Errors
/// Those of `fill`; something is at `path`; another process is writing it; the disk cannot be written.
pub fn fill_file(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    Unfinished::file(path)
        .and_then(|temp| {
            temp.ensure_alone(path)?;
            ensure_free(path)?;
            fill(temp.path())?;
            ensure_free(path)?; // another program may have created it in the meantime
            temp.publish(path)
        })
        .map_err(not_written(path))
}

/// Error context for a failed write: the path and, if there is one, a hint.
pub fn not_written(path: &Path) -> impl Fn(Error) -> Error {
    move |error| with_hint(error, format_args!("{} could not be written", path.display()))
}

/// Points the link `path` at `target`, relative to the link's folder, atomically.
///
/// # Errors
/// There is a folder at `path` that is not a copy of `target`, or the disk cannot be written.
pub fn replace_link(path: &Path, target: &str) -> Result<()> {
    if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        // This happens when a run is copied with its links dereferenced.
        ensure!(
            is_copy(path, &path.with_file_name(target)).unwrap_or(false),
            "{} is a folder where a link to {target} belongs, and is not a copy of it; move it away",
            path.display()
        );
        remove_folder(path)?;
    }
    let temp = unfinished::temp_path(path)?;
    let _ = fs::remove_file(&temp);
    std::os::unix::fs::symlink(target, &temp)
        .and_then(|()| fs::rename(&temp, path))
        .with_context(|| format!("link {} could not be written", path.display()))
        .inspect_err(|_| {
            let _ = fs::remove_file(&temp);
        })?;
    sync_folder(parent(path))
}

/// Whether every file of `folder` is in `original`, with the same bytes.
fn is_copy(folder: &Path, original: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let other = original.join(entry.file_name());
        let same = entry.file_type()?.is_file()
            && other.is_file()
            && super::hash::sha256_of_file(&entry.path())? == super::hash::sha256_of_file(&other)?;
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes a folder atomically: it is renamed to a temporary name first, so that it is never seen half deleted.
///
/// # Errors
/// The disk cannot be written.
pub fn remove_folder(path: &Path) -> Result<()> {
    let temp = unfinished::temp_path(path)?;
    fs::rename(path, &temp)
        .map_err(anyhow::Error::from)
        .and_then(|()| sync_folder(parent(path)))
        .and_then(|()| Ok(fs::remove_dir_all(&temp)?))
        .with_context(|| format!("{} could not be removed", path.display()))
}

/// Free bytes of the file system at `path`.
///
/// # Errors
/// There is no such path.
pub fn free_space(path: &Path) -> Result<u64> {
    let space = rustix::fs::statvfs(path).with_context(|| format!("{} cannot be looked at", path.display()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// The parent folder of a path.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Syncs a folder: a rename is durable only after that.
///
/// # Errors
/// It cannot be flushed.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|opened| opened.sync_all())
        .with_context(|| format!("folder {} cannot be flushed to disk", folder.display()))
}

/// Total size in bytes of the files below a folder. Entries that disappear in the meantime count as 0.
///
/// # Errors
/// It cannot be read.
pub fn size_of_folder(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else { continue }; // of a link itself, not of what it points to
        bytes += if metadata.is_dir() {
            match size_of_folder(&entry.path()) {
                Err(_) if !entry.path().exists() => 0,
                size => size?,
            }
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

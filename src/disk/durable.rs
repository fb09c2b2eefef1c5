//! Files and folders that are complete or not there.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Begins the names of what is still being written; safe to delete when no program runs.
const MAKING: &str = ".making-";

/// Where something is written before it is renamed into `place`.
pub fn making(place: &Path) -> Result<PathBuf> {
    let name = place.file_name().context("a path to write needs a name")?;
    Ok(place.with_file_name(format!("{MAKING}{}-{}", std::process::id(), name.to_string_lossy())))
}

/// Makes a folder by `fill`, which gets an empty one beside its place; flushes what it wrote and renames it into place.
pub fn write_folder(place: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let making = making(place)?;
    remove_unfinished(place)?;
    let result = (|| {
        fs::create_dir(&making)?;
        // Tells others that this is not left over.
        let folder = File::open(&making)?;
        folder.try_lock()?;
        fill(&making)?;
        for entry in fs::read_dir(&making)? {
            File::open(entry?.path())?.sync_all()?;
        }
        sync_folder(&making)?;
        ensure!(
            place.symlink_metadata().is_err(),
            "another program has written it meanwhile"
        );
        fs::rename(&making, place)?;
        sync_folder(place.parent().unwrap_or(Path::new(".")))
    })();
    if result.is_err() {
        let _ = fs::remove_dir_all(&making);
    }
    result
}

/// # Errors
/// Something is at `place` already.
pub fn ensure_free(place: &Path) -> Result<()> {
    ensure!(
        place.symlink_metadata().is_err(),
        "{} exists already; choose another --out",
        place.display()
    );
    Ok(())
}

/// Makes the folders above a place.
pub fn make_parents(place: &Path) -> Result<()> {
    match place.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => {
            fs::create_dir_all(parent).with_context(|| format!("folder {} cannot be made", parent.display()))
        }
        None => Ok(()),
    }
}

/// Replaces a file's contents in one step.
pub fn write_file(place: &Path, contents: &[u8]) -> Result<()> {
    fill_file(place, |making| Ok(fs::write(making, contents)?))
}

/// Makes a file by `fill`, which gets a path beside its place; flushes what it wrote and renames it into place.
pub fn fill_file(place: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let making = making(place)?;
    let result = fill(&making).and_then(|()| publish(&making, place));
    if result.is_err() {
        let _ = fs::remove_file(&making);
    }
    result.with_context(|| format!("{} could not be written", place.display()))
}

/// Points the link `place` at `target`, relative to the link's folder, in one step.
pub fn replace_link(place: &Path, target: &str) -> Result<()> {
    ensure!(
        !place.symlink_metadata().is_ok_and(|found| found.is_dir()),
        "{} is a folder where a link belongs, as copying a run without links leaves it; remove it, all it holds is in {target} too",
        place.display()
    );
    let making = making(place)?;
    let _ = fs::remove_file(&making);
    std::os::unix::fs::symlink(target, &making)
        .and_then(|()| fs::rename(&making, place))
        .with_context(|| format!("link {} could not be written", place.display()))?;
    sync_folder(place.parent().unwrap_or(Path::new(".")))
}

/// Removes a folder, which loses its name first: whatever happens, it is whole or gone.
pub fn remove_folder(place: &Path) -> Result<()> {
    let making = making(place)?;
    fs::rename(place, &making)
        .map_err(anyhow::Error::from)
        .and_then(|()| sync_folder(place.parent().unwrap_or(Path::new("."))))
        .and_then(|()| Ok(fs::remove_dir_all(&making)?))
        .with_context(|| format!("{} could not be removed", place.display()))
}

/// Bytes that can still be written where `place` is.
///
/// # Errors
/// There is no such place.
pub fn free_space(place: &Path) -> Result<u64> {
    let space = rustix::fs::statvfs(place).with_context(|| format!("{} cannot be looked at", place.display()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Removes what programs that died were writing for `place`.
///
/// # Errors
/// Another program is writing it.
fn remove_unfinished(place: &Path) -> Result<()> {
    let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty());
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    for entry in fs::read_dir(parent.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let unfinished = entry
            .file_name()
            .to_string_lossy()
            .strip_prefix(MAKING)
            .is_some_and(|rest| {
                rest.split_once('-')
                    .is_some_and(|(process, of)| of == name && process.parse::<u32>().is_ok())
            });
        if unfinished && entry.file_type()?.is_dir() {
            ensure!(
                File::open(entry.path())?.try_lock().is_ok(),
                "another program is writing it; wait for that one, or choose another --out"
            );
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Whether that is the name of something that was still being written.
pub fn is_leftover(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(MAKING)
}

/// Removes what programs that died left in `folder`.
pub fn remove_leftovers(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_leftover(&entry.file_name()) {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// Gives a finished file its name.
pub fn publish(making: &Path, place: &Path) -> Result<()> {
    File::open(making)?.sync_all()?;
    fs::rename(making, place)?;
    sync_folder(place.parent().unwrap_or(Path::new(".")))
}

/// A rename is on disk only once its folder is.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    Ok(File::open(folder)?.sync_all()?)
}

/// Bytes of the files in a folder and those below it.
pub fn size_of_folder(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?; // of a link itself, not of what it points to
        bytes += if metadata.is_dir() {
            size_of_folder(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

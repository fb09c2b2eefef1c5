//! The SHA-256 hashes of a checkpoint's files, which its `state.json` records.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use super::base;
use super::state::{STATE, read_header};
use crate::disk::files;
use crate::disk::hash::sha256_of_file;

/// The hashes of the files of a folder, by name.
pub(super) fn of_files(folder: &Path) -> Result<BTreeMap<String, String>> {
    fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, sha256_of_file(&entry.path())?))
        })
        .collect()
}

/// Whether hashes were recorded when the folder was written; an export has none.
pub fn has_hashes(folder: &Path) -> bool {
    folder.join(STATE).exists()
}

/// Compares every file, and the base weights of adapters, with the hashes that were recorded when the checkpoint was
/// written; returns the number of files.
///
/// # Errors
/// The first file that is missing or changed.
pub fn verify(folder: &Path) -> Result<usize> {
    let recorded = read_header(folder)?;
    verify_files(folder, |_| true)?;
    if recorded.base.is_some() {
        base::find(folder)?;
    }
    Ok(recorded.files.len())
}

/// Compares the files whose names `choose` accepts with their hashes, if hashes were recorded.
///
/// # Errors
/// The first file that is missing or changed.
pub(super) fn verify_files(folder: &Path, choose: impl Fn(&str) -> bool) -> Result<()> {
    if !has_hashes(folder) {
        return Ok(());
    }
    let recorded = read_header(folder)?;
    for (name, hash) in recorded.files.iter().filter(|(name, _)| choose(name)) {
        files::ensure_plain_name(name, &folder.join(STATE))?;
        let path = folder.join(name);
        ensure!(
            sha256_of_file(&path)? == *hash,
            "{} was changed or damaged after it was written; {}",
            path.display(),
            if recorded.imported_from.is_some() {
                "import it again"
            } else {
                "restore it from its source, or move its folder out of the run to use the checkpoint before it"
            }
        );
    }
    Ok(())
}

/// The hash of the base weights of the adapters in `folder`, if it was recorded.
///
/// # Errors
/// `state.json` is broken.
pub(super) fn hash_of_base(folder: &Path) -> Result<Option<String>> {
    if !has_hashes(folder) {
        return Ok(None);
    }
    Ok(read_header(folder)?.base)
}

//! Finds runs and checkpoints on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::run::Run;
use super::{CheckpointState, read_state};
use crate::disk::durable;

/// The default folder of runs, relative to the current one.
pub const RUNS: &str = "runs";

/// A row of the listing of `runs`.
#[derive(Debug)]
pub struct Summary {
    /// Its path.
    pub folder: PathBuf,
    /// Time since its last write.
    pub age: Duration,
    /// Size on disk.
    pub bytes: u64,
    /// The number of steps that it is configured for.
    pub total_steps: u64,
    /// Training state of the newest checkpoint, if there is one.
    pub state: Option<CheckpointState>,
}

/// Summarizes a run for the listing.
///
/// # Errors
/// Its configuration or the training state of its newest checkpoint cannot be read.
pub fn summarize(run: &Run) -> Result<Summary> {
    let state = match run.steps()?.is_empty() {
        true => None,
        false => Some(read_checkpoint(Some(&run.folder), read_state)?),
    };
    Ok(Summary {
        folder: run.folder.clone(),
        age: run.modified().elapsed().unwrap_or_default(),
        bytes: durable::size_of_folder(&run.folder)?,
        total_steps: run.config()?.steps,
        state,
    })
}

/// The runs below `folder`, ordered by their last write.
///
/// # Errors
/// `folder` exists and cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Run>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut runs: Vec<Run> = fs::read_dir(folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .filter_map(|entry| Run::open(&entry.ok()?.path()).ok())
        .collect();
    runs.sort_by_key(|run| (run.modified(), run.folder.clone()));
    Ok(runs)
}

/// The newest run below `folder`.
///
/// # Errors
/// There is none.
pub fn newest(folder: &Path) -> Result<Run> {
    list(folder)?.pop().with_context(|| {
        format!(
            "there is no run in {}; start one with `mlx-gpt train`",
            folder.display()
        )
    })
}

/// Resolves a user's path to a checkpoint: a checkpoint's folder, a run's (its newest), or nothing (the newest run's).
///
/// # Errors
/// There is none.
pub fn find_checkpoint(path: Option<&Path>) -> Result<PathBuf> {
    match path {
        None => newest(Path::new(RUNS))?.newest_checkpoint(),
        Some(path) => match Run::open(path) {
            Ok(run) => run.newest_checkpoint(),
            // Resolved now, because `latest` may change while files are being read.
            Err(_) => Ok(match fs::read_link(path) {
                Ok(target) => path.with_file_name(target),
                Err(_) => path.to_owned(),
            }),
        },
    }
}

/// Reads the checkpoint at a user's path with `load`. If a running training deletes it in the meantime (`--keep-last`), the
/// newest one is read instead.
///
/// # Errors
/// There is none; those of `load`.
pub fn read_checkpoint<T>(path: Option<&Path>, load: impl Fn(&Path) -> Result<T>) -> Result<T> {
    loop {
        let folder = find_checkpoint(path)?;
        let result = load(&folder);
        // Also after a success: a deleted file may have been taken for an optional one.
        let removed = !folder.exists();
        if !removed || find_checkpoint(path).map_or(true, |newest| newest == folder) {
            return result;
        }
    }
}

/// The run that a checkpoint belongs to, if it is still inside one.
pub fn run_of(checkpoint: &Path) -> Option<Run> {
    let folder = match checkpoint.canonicalize() {
        Ok(real) => real.parent()?.to_owned(),
        Err(_) => checkpoint.parent()?.canonicalize().ok()?, // deleted in the meantime
    };
    Run::open(&folder).ok()
}

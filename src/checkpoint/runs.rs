//! Finds runs and checkpoints on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::run::Run;
use super::{CheckpointState, read_state, read_state_if_any};
use crate::disk::durable;

/// The default folder of runs, relative to the current one.
pub const RUNS: &str = "runs";

/// How much lower the best checkpoint's validation loss must be, in nats, to be used instead of the newest one's. Below that
/// the newest one, whose learning rate has come down further, is as good on other text.
const BEST_MARGIN: f64 = 0.02;

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
        false => Some(read_from(|| run.newest_checkpoint(), read_state)?),
    };
    Ok(Summary {
        folder: run.folder.clone(),
        age: run.modified().elapsed().unwrap_or_default(),
        bytes: durable::size_of_folder(&run.folder)?,
        total_steps: match state.as_ref().and_then(|state| state.pace) {
            Some(pace) => pace.steps,
            None => run.config()?.steps,
        },
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

/// Resolves a user's path to a checkpoint: a checkpoint's folder, a run's (its newest, or its best where that is
/// better), or nothing (the newest run's).
///
/// # Errors
/// There is none.
pub fn find_checkpoint(path: Option<&Path>) -> Result<PathBuf> {
    let run = match path {
        None => newest(Path::new(RUNS))?,
        Some(path) => match Run::open(path) {
            Ok(run) => run,
            // Resolved now, because `latest` may change while files are being read.
            Err(_) => {
                return Ok(match fs::read_link(path) {
                    Ok(target) => path.with_file_name(target),
                    Err(_) => path.to_owned(),
                });
            }
        },
    };
    let latest = run.newest_checkpoint()?;
    Ok(better_than(&latest, &run).map_or(latest, |(folder, _)| folder))
}

/// The run's best checkpoint, if its validation loss is lower than that of the `latest` one, and both losses.
fn better_than(latest: &Path, run: &Run) -> Option<(PathBuf, [f64; 2])> {
    let state = read_state_if_any(latest).ok()??; // what is wrong with it is said by whoever loads it
    let (best, now) = (state.best?, state.evaluation?);
    let folder = run.step_folder(best.step);
    let better = best.val_loss + BEST_MARGIN < now.val && folder.exists();
    better.then_some((folder, [best.val_loss, now.val]))
}

/// Says so if `folder`, which a user's path was resolved to, is the best checkpoint of a run instead of the newest one.
pub fn report_choice(path: Option<&Path>, folder: &Path) {
    let named = path.is_some_and(|path| Run::open(path).is_err()); // by itself, not by its run
    let run = run_of(folder).filter(|_| !named);
    let Some((run, latest)) = run.and_then(|run| run.newest_checkpoint().ok().map(|latest| (run, latest))) else {
        return;
    };
    if let Some((best, [lowest, now])) = better_than(&latest, &run)
        && best.file_name() == folder.file_name()
    {
        log::info!(
            "{} is used, the best of its run: validation loss {lowest:.4}, and {now:.4} at the newest, {}",
            folder.display(),
            folder.with_file_name("latest").display()
        );
    }
}

/// Reads the checkpoint at a user's path with `load`, and says so if it is not the newest one of its run. If a running training
/// deletes it in the meantime (`--keep-last`), another one is read instead.
///
/// # Errors
/// There is none; those of `load`.
pub fn read_checkpoint<T>(path: Option<&Path>, load: impl Fn(&Path) -> Result<T>) -> Result<T> {
    read_from(
        || find_checkpoint(path),
        |folder| {
            let loaded = load(folder)?;
            report_choice(path, folder);
            Ok(loaded)
        },
    )
}

/// Reads the checkpoint that `find` finds with `load`, or the one that it finds then, if the first is deleted meanwhile.
fn read_from<T>(find: impl Fn() -> Result<PathBuf>, load: impl Fn(&Path) -> Result<T>) -> Result<T> {
    loop {
        let folder = find()?;
        let result = load(&folder);
        // Also after a success: a deleted file may have been taken for an optional one.
        let removed = !folder.exists();
        if !removed || find().map_or(true, |newest| newest == folder) {
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

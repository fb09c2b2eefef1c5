//! A run's folder: what started it, its metrics, its checkpoints.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use super::{Checkpoint, Moments, Progress, read_progress};
use crate::config::TrainConfig;
use crate::durable;
use crate::files;

/// Where runs go unless `--out` says otherwise, below the current folder.
pub const RUNS: &str = "runs";

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const CURVE: &str = "loss.svg";
const LATEST: &str = "latest";
const BEST: &str = "best";
const LOCK: &str = ".lock";

/// A run on disk.
#[derive(Debug)]
pub struct Run {
    pub folder: PathBuf,
    /// Held while this program trains the run.
    lock: Option<File>,
}

impl Run {
    /// Makes the folder of a new run, and locks it.
    ///
    /// # Errors
    /// There is a run already, or the folder cannot be made or written.
    pub fn create(folder: &Path, config: &TrainConfig) -> Result<Self> {
        let missing = first_missing(folder);
        let made = make_folder(folder)
            .with_context(|| format!("run folder {} cannot be made; choose another --out", folder.display()))?;
        let mut run = Self {
            folder: folder.to_owned(),
            lock: None,
        };
        // From here on the folder is this process's alone: another that wants it, too, fails at the lock.
        run.lock()?;
        ensure!(
            !run.config_path().exists() && !run.metrics_path().exists() && run.steps().unwrap_or_default().is_empty(),
            "{} holds a run already; continue it with --resume {0}, or choose another --out",
            folder.display()
        );
        if let Err(error) = run.write_config(config) {
            // Leave nothing behind of a run that never began.
            if made {
                let _ = fs::remove_dir_all(folder);
            }
            return Err(error.context(format!(
                "run folder {} cannot be written; choose another --out",
                folder.display()
            )));
        }
        if let Some(parent) = missing.as_deref().and_then(Path::parent) {
            durable::sync_folder(parent)?;
        }
        Ok(run)
    }

    /// Keeps other processes from training the run as long as this value lives, or the process does.
    ///
    /// # Errors
    /// Another process trains it.
    pub fn lock(&mut self) -> Result<()> {
        let path = self.folder.join(LOCK);
        let file = File::create(&path)
            .with_context(|| format!("{} cannot be written; choose another --out", path.display()))?;
        file.try_lock().map_err(|_| {
            anyhow::anyhow!(
                "run {} is being trained by another process; wait for it, or stop it",
                self.folder.display()
            )
        })?;
        self.lock = Some(file);
        Ok(())
    }

    /// Opens an existing run.
    ///
    /// # Errors
    /// There is none.
    pub fn open(folder: &Path) -> Result<Self> {
        let run = Self {
            folder: folder.components().collect(), // no slash at the end
            lock: None,
        };
        ensure!(
            run.config_path().is_file(),
            "{} holds no run; `mlx-gpt runs` lists those that are there",
            folder.display()
        );
        Ok(run)
    }

    /// The folder's name.
    pub fn name(&self) -> String {
        self.folder
            .file_name()
            .unwrap_or(self.folder.as_os_str())
            .to_string_lossy()
            .into_owned()
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    pub fn metrics_path(&self) -> PathBuf {
        self.folder.join(METRICS)
    }

    pub fn curve_path(&self) -> PathBuf {
        self.folder.join(CURVE)
    }

    /// # Errors
    /// `config.toml` is missing or not what a run has.
    pub fn config(&self) -> Result<TrainConfig> {
        let path = self.config_path();
        let bytes = files::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        toml::from_slice(&bytes).with_context(|| format!("{} is not the configuration of a run", path.display()))
    }

    pub fn write_config(&self, config: &TrainConfig) -> Result<()> {
        durable::write_file(&self.config_path(), toml::to_string(config)?.as_bytes())
    }

    /// Replaces the metrics or the curve.
    pub fn write_file(&self, path: &Path, contents: &[u8]) -> Result<()> {
        durable::write_file(path, contents)
    }

    pub fn step_folder(&self, step: u64) -> PathBuf {
        self.folder.join(step_name(step))
    }

    /// Saves a checkpoint into the run and points the links at it.
    pub fn save(&self, checkpoint: &Checkpoint, moments: &Moments, progress: &Progress, sample: &str) -> Result<()> {
        checkpoint.save(moments, progress, sample)?;
        self.point_links(progress)
    }

    /// Points `latest` at the step of `progress`, the run's newest, and `best` at the best.
    pub fn point_links(&self, progress: &Progress) -> Result<()> {
        durable::replace_link(&self.folder.join(LATEST), &step_name(progress.step))?;
        match progress.best {
            Some(best) if self.step_folder(best.step).exists() => {
                durable::replace_link(&self.folder.join(BEST), &step_name(best.step))
            }
            _ => Ok(()),
        }
    }

    /// Where the best checkpoint is, if one is known.
    pub fn best(&self) -> Option<PathBuf> {
        let link = self.folder.join(BEST);
        link.exists().then_some(link)
    }

    /// Removes what an earlier process that died was writing.
    pub fn clean(&self) -> Result<()> {
        durable::remove_leftovers(&self.folder).with_context(|| format!("{} cannot be cleaned", self.folder.display()))
    }

    /// The steps that have a checkpoint, ascending. A folder with a step's name is complete: it got that name last.
    pub fn steps(&self) -> Result<Vec<u64>> {
        let mut steps: Vec<u64> = fs::read_dir(&self.folder)
            .with_context(|| format!("run {} cannot be read", self.folder.display()))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
            .collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The newest complete checkpoint's folder.
    ///
    /// # Errors
    /// The run has none yet.
    pub fn newest_checkpoint(&self) -> Result<PathBuf> {
        match self.steps()?.last() {
            Some(&step) => Ok(self.step_folder(step)),
            None => bail!(
                "run {} has no checkpoint yet; the first comes at the first multiple of save-every, or `train --resume {0}` begins it again",
                self.folder.display()
            ),
        }
    }

    pub fn summary(&self) -> Result<Summary> {
        let config = self.config()?;
        let progress = self
            .newest_checkpoint()
            .ok()
            .and_then(|folder| read_progress(&folder).ok());
        Ok(Summary {
            folder: self.folder.clone(),
            age: self.modified().elapsed().unwrap_or_default(),
            bytes: durable::size_of_folder(&self.folder)?,
            total_steps: config.steps,
            progress,
        })
    }

    fn modified(&self) -> SystemTime {
        [self.metrics_path(), self.config_path()]
            .iter()
            .filter_map(|path| fs::metadata(path).ok()?.modified().ok())
            .max()
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// A line of `runs`.
#[derive(Debug)]
pub struct Summary {
    pub folder: PathBuf,
    /// Since it last wrote something.
    pub age: Duration,
    pub bytes: u64,
    pub total_steps: u64,
    /// Of the newest checkpoint.
    pub progress: Option<Progress>,
}

/// The runs below `folder`, the one that last wrote something last.
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

/// The checkpoint that a user means: a checkpoint's folder, a run's (its newest), or nothing (the newest run's).
///
/// # Errors
/// There is none.
pub fn find_checkpoint(path: Option<&Path>) -> Result<PathBuf> {
    match path {
        None => newest(Path::new(RUNS))?.newest_checkpoint(),
        Some(path) => match Run::open(path) {
            Ok(run) => run.newest_checkpoint(),
            Err(_) => Ok(path.to_owned()),
        },
    }
}

/// The run that a checkpoint belongs to, if it is still inside one.
pub fn run_of(checkpoint: &Path) -> Option<Run> {
    let real = checkpoint.canonicalize().ok()?;
    Run::open(real.parent()?).ok()
}

fn step_name(step: u64) -> String {
    format!("step-{step:06}")
}

/// Makes a folder and those above it; whether it was this call that made it.
fn make_folder(folder: &Path) -> std::io::Result<bool> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => Ok(true),
        Err(_) if folder.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

fn first_missing(folder: &Path) -> Option<PathBuf> {
    folder
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .last()
        .map(Path::to_owned)
}

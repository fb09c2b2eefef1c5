//! A run's folder: its configuration, its metrics, its checkpoints.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use super::CheckpointState;
use super::run_lock::{self, LOCK, RunLock};
use crate::config::TrainConfig;
use crate::disk::durable;
use crate::disk::files;
use crate::disk::hint::with_hint;
use crate::disk::unfinished;
use crate::terminal::shell::quoted;

const RUN_CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const CURVE: &str = "loss.svg";
const LATEST: &str = "latest";
const BEST: &str = "best";
/// The folder of the base model, beside those of the steps.
pub(super) const BASE: &str = "base";
/// The folder of the reference model, beside those of the steps.
pub(super) const REFERENCE: &str = "reference";

/// A run on disk.
#[derive(Debug)]
pub struct Run {
    /// Its path.
    pub folder: PathBuf,
    /// Held while this program trains the run.
    lock: Option<RunLock>,
    /// Whether this process created the run.
    created_here: bool,
}

impl Run {
    /// Creates the folder of a new run, and locks it.
    ///
    /// # Errors
    /// The folder is not empty, or cannot be created or written.
    pub fn create(folder: &Path, config: &TrainConfig) -> Result<Self> {
        let _made = durable::make_folder(folder).context("choose another --out")?;
        let mut run = Self {
            folder: folder.to_owned(),
            lock: None,
            created_here: true,
        };
        run.ensure_unused()?;
        // From here on the folder belongs to this process: another one fails at the lock, or finds a run.
        run.lock()?;
        run.ensure_unused()?;
        if let Err(error) = run.write_config(config) {
            run.discard();
            return Err(with_hint(
                error,
                format_args!(
                    "run folder {} cannot be written (or choose another --out)",
                    folder.display()
                ),
            ));
        }
        Ok(run)
    }

    fn ensure_unused(&self) -> Result<()> {
        ensure!(
            !self.config_path().exists() && self.steps()?.is_empty(),
            "{} already holds a run; continue it with --resume {}, or choose another --out",
            self.folder.display(),
            quoted(&self.folder)
        );
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            ensure!(
                name == LOCK || unfinished::is_unfinished(&name),
                "{} is not empty and not a run: it contains {}; choose another --out",
                self.folder.display(),
                name.display()
            );
        }
        Ok(())
    }

    /// Removes a run that this process created and that has no checkpoint.
    pub fn discard(&self) {
        if self.created_here && self.steps().is_ok_and(|steps| steps.is_empty()) {
            for name in [RUN_CONFIG, METRICS, CURVE, LOCK] {
                let _ = fs::remove_file(self.folder.join(name));
            }
            let _ = fs::remove_dir_all(self.base_folder());
            let _ = fs::remove_dir_all(self.reference_folder());
            let _ = fs::remove_dir(&self.folder); // only if it is empty
        }
    }

    /// Keeps other processes from training the run until this value is dropped or the process ends.
    ///
    /// # Errors
    /// Another process, which is named, trains it; or files cannot be written or locked there.
    pub fn lock(&mut self) -> Result<()> {
        self.lock = Some(RunLock::acquire(&self.folder, self.created_here)?);
        Ok(())
    }

    /// The process that trains the run now, if one does.
    pub fn trainer(&self) -> Option<u32> {
        run_lock::holder(&self.folder)
    }

    /// Finds the locked folder again, which may have been renamed. Returns the previous path if it changed.
    ///
    /// # Errors
    /// It was removed.
    pub fn refresh_path(&mut self) -> Result<Option<PathBuf>> {
        let Some(lock) = &self.lock else { return Ok(None) };
        let path = lock.current_path(&self.folder)?;
        let moved = path != self.folder;
        let old = std::mem::replace(&mut self.folder, path);
        Ok(moved.then_some(old))
    }

    /// Opens an existing run.
    ///
    /// # Errors
    /// There is none.
    pub fn open(folder: &Path) -> Result<Self> {
        let run = Self {
            folder: folder.components().collect(), // without a trailing slash
            lock: None,
            created_here: false,
        };
        ensure!(
            run.config_path().is_file(),
            "{} is not a run; `mlx-gpt runs` lists the runs",
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

    /// The path of `config.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join(RUN_CONFIG)
    }

    /// The path of `metrics.jsonl`.
    pub fn metrics_path(&self) -> PathBuf {
        self.folder.join(METRICS)
    }

    /// The path of `loss.svg`.
    pub fn curve_path(&self) -> PathBuf {
        self.folder.join(CURVE)
    }

    /// Reads its configuration.
    ///
    /// # Errors
    /// `config.toml` is missing or invalid.
    pub fn config(&self) -> Result<TrainConfig> {
        let path = self.config_path();
        let bytes = files::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        toml::from_slice(&bytes).with_context(|| format!("{} is not the configuration of a run", path.display()))
    }

    /// Writes its configuration.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_config(&self, config: &TrainConfig) -> Result<()> {
        durable::write_file(&self.config_path(), toml::to_string(config)?.as_bytes())
    }

    /// The run's own copy (or hard link) of the adapters' base model, so that it does not depend on the original path.
    pub fn base_folder(&self) -> PathBuf {
        self.folder.join(BASE)
    }

    /// Where the run keeps the model that it is tuned from by rewards or preferences.
    pub fn reference_folder(&self) -> PathBuf {
        self.folder.join(REFERENCE)
    }

    /// The folder of a step's checkpoint.
    pub fn step_folder(&self, step: u64) -> PathBuf {
        self.folder.join(step_name(step))
    }

    /// Points the links `latest` and `best` at the newest and the best checkpoint.
    ///
    /// # Errors
    /// A link cannot be written.
    pub fn update_links(&self, state: &CheckpointState) -> Result<()> {
        durable::replace_link(&self.folder.join(LATEST), &step_name(state.step))?;
        match state.best {
            Some(best) if self.step_folder(best.step).exists() => {
                durable::replace_link(&self.folder.join(BEST), &step_name(best.step))
            }
            _ => Ok(()),
        }
    }

    /// Deletes old checkpoints: keeps the newest `last` (0: all), the best one, and those at multiples of `every`.
    ///
    /// Each is deleted atomically, so that no incomplete checkpoint remains.
    ///
    /// # Errors
    /// A folder cannot be removed.
    pub fn prune_checkpoints(&self, last: usize, every: u64, best: Option<u64>) -> Result<()> {
        let steps = self.steps()?;
        let old = if last == 0 { 0 } else { steps.len().saturating_sub(last) };
        for &step in &steps[..old] {
            if Some(step) != best && (every == 0 || !step.is_multiple_of(every)) {
                durable::remove_folder(&self.step_folder(step))?;
            }
        }
        Ok(())
    }

    /// Deletes the checkpoints after `step`, the newest first.
    ///
    /// # Errors
    /// A folder cannot be removed.
    pub fn remove_checkpoints_after(&self, step: u64) -> Result<()> {
        for later in self.steps()?.into_iter().rev().take_while(|&later| later > step) {
            durable::remove_folder(&self.step_folder(later))?;
        }
        Ok(())
    }

    /// The path of the best checkpoint, if one is known.
    pub fn best(&self) -> Option<PathBuf> {
        let link = self.folder.join(BEST);
        link.exists().then_some(link)
    }

    /// The target of `latest`, which may no longer exist.
    pub fn latest(&self) -> Option<PathBuf> {
        fs::read_link(self.folder.join(LATEST)).ok()
    }

    /// Removes temporary files of an earlier process that died.
    ///
    /// # Errors
    /// The run cannot be written.
    pub fn clean(&self) -> Result<()> {
        unfinished::remove_all(&self.folder)
            .map_err(|error| with_hint(error, format_args!("run {} cannot be cleaned", self.folder.display())))
    }

    /// The steps that have a checkpoint, ascending. Checkpoints are written atomically, so that they are complete. A folder
    /// with a step's name but without config.json is ignored.
    ///
    /// # Errors
    /// The run cannot be read.
    pub fn steps(&self) -> Result<Vec<u64>> {
        let mut steps: Vec<u64> = fs::read_dir(&self.folder)
            .with_context(|| format!("run {} cannot be read", self.folder.display()))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
            .filter(|&step| self.step_folder(step).join(super::MODEL_CONFIG).exists())
            .collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The newest complete checkpoint's folder.
    ///
    /// A training may save and prune meanwhile, and a listing need not contain what is renamed into the folder while it is
    /// read. `latest` is moved between the two, so that a listing during which it stays has the checkpoint that it points at.
    ///
    /// # Errors
    /// The run has none yet.
    pub fn newest_checkpoint(&self) -> Result<PathBuf> {
        loop {
            let latest = self.latest();
            let newest = self.steps()?.pop();
            if self.latest() != latest {
                continue;
            }
            return newest.map(|step| self.step_folder(step)).with_context(|| {
                format!(
                    "run {} has no checkpoint yet; the first is saved at the first multiple of save-every; `train --resume {}` restarts the run",
                    self.folder.display(),
                    quoted(&self.folder)
                )
            });
        }
    }

    /// The time of its last write.
    pub fn modified(&self) -> SystemTime {
        [self.metrics_path(), self.config_path()]
            .iter()
            .filter_map(|path| fs::metadata(path).ok()?.modified().ok())
            .max()
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

fn step_name(step: u64) -> String {
    format!("step-{step:06}")
}

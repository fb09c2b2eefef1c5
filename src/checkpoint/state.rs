//! `state.json`: the training state of a checkpoint, or where it was imported from; and the hashes of the other files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::hashes;
use super::{Apart, PairLogprobs};
use crate::compute::numerics::NumericsFingerprint;
use crate::config::TrainConfig;
use crate::data::dataset::CorpusRecord;
use crate::disk::files;
use crate::model::parameters::Parameters;

pub(super) const STATE: &str = "state.json";

/// The version of `state.json`'s format; newer ones are refused.
const VERSION: u32 = 1;

/// The training state at a checkpoint, which is its `state.json`: step, losses, corpus, numerics. (Parameters and moments are
/// in files of their own.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// Version of this format.
    #[serde(rename = "format")]
    pub version: u32,
    /// Completed optimizer steps. Batches and dropout masks are functions of `seed` and `step`, so these two fields are the
    /// random state and the position in the data.
    pub step: u64,
    /// Random seed of the run.
    pub seed: u64,
    /// Losses of the evaluation at this step, if there was one.
    pub evaluation: Option<Losses>,
    /// The lowest validation loss of the run's checkpoints so far.
    pub best: Option<Best>,
    /// The text that the run is trained on.
    pub corpus: CorpusRecord,
    /// The configuration that the run was trained with up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<TrainConfig>,
    /// What determined floating-point rounding.
    #[serde(
        default,
        rename = "arithmetic",
        skip_serializing_if = "NumericsFingerprint::is_empty"
    )]
    pub numerics: NumericsFingerprint,
    /// Steps skipped because their loss or gradients were not finite.
    #[serde(default)]
    pub skipped: u64,
    /// The loss scale of float16 training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// Times that the run returned to an earlier checkpoint after a loss spike. Batches depend on it.
    #[serde(default)]
    pub retry: u32,
    /// The level of the training loss, by which spikes are noticed.
    #[serde(default)]
    pub loss_level: LossLevel,
    /// The plan of a run that ends at a given time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// SHA-256 of the adapters' base weights, if only adapters are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// SHA-256 of the reference model's weights, if the run is tuned by rewards or preferences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// SHA-256 of each other file of the folder.
    pub files: BTreeMap<String, String>,
}

/// How many steps a run takes that ends at a given time, and how far its schedule is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Steps done when this was planned.
    pub from: u64,
    /// Fraction of the schedule that was done then.
    pub done: f32,
    /// Steps in all.
    pub steps: u64,
    /// Time that an evaluation and its checkpoint took last; 0 before the first.
    pub evaluation_milliseconds: u64,
    /// Time of the run up to this checkpoint.
    pub milliseconds: u64,
}

/// Moving averages of the training loss, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossLevel {
    /// Mean.
    pub mean: f32,
    /// Variance.
    pub variance: f32,
    /// Losses in them, counted up to those of the warm-up.
    pub steps: u32,
    /// Losses in a row that are too high for the level.
    pub above: u32,
}

/// The factor of float16 losses before the backward pass, which keeps small gradients from underflowing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// The factor.
    pub scale: f32,
    /// Finite steps since it last changed.
    pub finite_steps: u32,
}

/// The losses of an evaluation during training, in nats per token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// On the training split.
    pub train: f64,
    /// On the validation split.
    pub val: f64,
}

/// The checkpoint with the lowest validation loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its step.
    pub step: u64,
    /// In nats per token.
    pub val_loss: f64,
}

/// The optimizer's moments, with the names and shapes of their parameters.
pub struct Moments {
    /// First moments, or Muon's momentum.
    pub m: Parameters,
    /// Second moments.
    pub v: Parameters,
    /// What ranks that train apart have besides.
    pub apart: Option<Apart>,
    /// What the reference model says of preference pairs; written only: [`PairLogprobs::read`] reads it.
    pub pair_logprobs: Option<PairLogprobs>,
}

/// The record of an imported checkpoint: its origin, and the hashes.
#[derive(Serialize, Deserialize)]
struct Imported {
    #[serde(rename = "format")]
    version: u32,
    imported_from: String,
    files: BTreeMap<String, String>,
}

/// The fields that every `state.json` has, if they apply.
#[derive(Deserialize)]
pub(super) struct StateHeader {
    #[serde(rename = "format")]
    version: u32,
    /// Where the checkpoint comes from, if it was not trained here.
    pub imported_from: Option<String>,
    /// SHA-256 of the adapters' base weights.
    pub base: Option<String>,
    /// SHA-256 of each other file of the folder.
    pub files: BTreeMap<String, String>,
}

impl CheckpointState {
    /// The state at step 0; `base` is the hash of the base weights if only adapters are trained.
    pub fn new(seed: u64, corpus: CorpusRecord, base: Option<String>) -> Self {
        Self {
            version: VERSION,
            step: 0,
            seed,
            evaluation: None,
            best: None,
            corpus,
            config: None,
            numerics: NumericsFingerprint::new(),
            skipped: 0,
            loss_scale: None,
            retry: 0,
            loss_level: LossLevel::default(),
            pace: None,
            base,
            reference: None,
            files: BTreeMap::new(),
        }
    }

    /// The state at a step that is about to be saved, with the losses of the evaluation at it, if there was one.
    pub fn at_step(&self, step: u64, evaluation: Option<Losses>) -> Self {
        let mut state = Self {
            step,
            evaluation,
            ..self.clone()
        };
        if let Some(losses) = evaluation
            && self.best.is_none_or(|best| losses.val < best.val_loss)
        {
            state.best = Some(Best {
                step,
                val_loss: losses.val,
            });
        }
        state
    }

    /// The state, computed with the numerics of another from now on.
    pub fn with_numerics_of(self, other: &Self) -> Self {
        Self {
            numerics: other.numerics.clone(),
            ..self
        }
    }

    /// Writes it, after all other files of the folder, with their hashes.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let state = Self {
            files: hashes::of_files(folder)?,
            ..self.clone()
        };
        write(folder, &state)
    }
}

/// Writes the record of an imported checkpoint, after its other files.
pub(super) fn write_imported(folder: &Path, source: &str) -> Result<()> {
    let imported = Imported {
        version: VERSION,
        imported_from: source.to_owned(),
        files: hashes::of_files(folder)?,
    };
    write(folder, &imported)
}

fn write(folder: &Path, state: &impl Serialize) -> Result<()> {
    Ok(fs::write(folder.join(STATE), serde_json::to_string_pretty(state)?)?)
}

/// Reads a training state.
///
/// # Errors
/// `state.json` is missing, not what training writes, or of a newer format.
pub fn read_state(folder: &Path) -> Result<CheckpointState> {
    if let Some(source) = read_header(folder)?.imported_from {
        bail!(
            "{} was imported from {source}, not trained here, so it has no training state to resume; start a run with --init-from",
            folder.display()
        );
    }
    files::read_json(&folder.join(STATE), "a training state")
}

/// Reads the fields that do not depend on where the checkpoint comes from.
///
/// # Errors
/// `state.json` is missing, not what this program writes, or of a newer format.
pub(super) fn read_header(folder: &Path) -> Result<StateHeader> {
    let path = folder.join(STATE);
    let header: StateHeader = files::read_json(&path, "a training state")?;
    files::ensure_version(&path, header.version, VERSION)?;
    Ok(header)
}

/// The training state, if there is one: an import or an export has none.
///
/// # Errors
/// `state.json` is there and broken, or of a newer format.
pub fn read_state_if_any(folder: &Path) -> Result<Option<CheckpointState>> {
    if !hashes::has_hashes(folder) || read_header(folder)?.imported_from.is_some() {
        return Ok(None);
    }
    read_state(folder).map(Some)
}

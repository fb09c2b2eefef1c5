//! Runs and checkpoints on disk.
//!
//! A checkpoint ([`Checkpoint`]) is a folder in Hugging Face's names and layout with its tokenizer; a run
//! ([`run::Run`]) is a folder of them with what started it and its metrics.

pub mod atomic;
pub mod hugging_face;
pub mod run;
mod tensors;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::ModelConfig;
use crate::data::corpus::hex;
use crate::model::init::layout;
use crate::model::parameters::Parameters;
use crate::tokenizer::CharTokenizer;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const STATE: &str = "state.json";
const SAMPLE: &str = "sample.txt";

/// The layout of `state.json`; a program that knows only older ones refuses newer ones.
const FORMAT: u32 = 1;

/// A model that can speak: weights, their shape, and the tokenizer that they were trained with.
pub struct Checkpoint {
    pub folder: PathBuf,
    pub model: ModelConfig,
    pub parameters: Parameters,
    pub tokenizer: CharTokenizer,
}

/// Where a run stood when a checkpoint was written: `state.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub format: u32,
    /// Optimizer steps done. Batches and dropout masks are functions of seed and step, so these two are the random
    /// state and the position in the data.
    pub step: u64,
    pub seed: u64,
    /// Losses of the evaluation at this step, if there was one.
    pub evaluation: Option<Losses>,
    /// The lowest validation loss of the run's checkpoints so far.
    pub best: Option<Best>,
    pub corpus: CorpusRecord,
    /// SHA-256 of each other file of the folder.
    pub files: BTreeMap<String, String>,
}

/// What an evaluation in training found, in nats per token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    pub train: f64,
    pub val: f64,
}

/// The checkpoint with the lowest validation loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub step: u64,
    pub val_loss: f64,
}

/// Which text a run learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorpusRecord {
    pub sha256: String,
    /// The byte at which validation begins.
    pub cut: usize,
}

/// AdamW's moments, by the names of their parameters.
pub struct Moments {
    pub m: Parameters,
    pub v: Parameters,
}

impl Progress {
    /// Of a run that begins.
    pub fn new(seed: u64, corpus: CorpusRecord) -> Self {
        Self {
            format: FORMAT,
            step: 0,
            seed,
            evaluation: None,
            best: None,
            corpus,
            files: BTreeMap::new(),
        }
    }

    /// Notes the losses of a step that is about to be saved.
    pub fn evaluated(&mut self, step: u64, losses: Losses) {
        self.evaluation = Some(losses);
        if self.best.is_none_or(|best| losses.val < best.val_loss) {
            self.best = Some(Best {
                step,
                val_loss: losses.val,
            });
        }
    }
}

impl Checkpoint {
    /// Reads a checkpoint's model and tokenizer; nothing is taken that does not match `config.json` exactly.
    ///
    /// # Errors
    /// A file that is missing, cut short, of another shape or of another architecture; a vocabulary and a tokenizer
    /// that disagree.
    pub fn load(folder: &Path) -> Result<Self> {
        ensure!(
            folder.is_dir(),
            "checkpoint {} is not there; `mlx-gpt runs` lists those that are",
            folder.display()
        );
        let model = hugging_face::read_config(&folder.join(CONFIG))?;
        let tokenizer = CharTokenizer::load(&folder.join(TOKENIZER))?;
        ensure!(
            tokenizer.vocab_size() == model.vocab_size,
            "checkpoint {}: its model has a vocabulary of {}, its tokenizer of {}; they belong to different checkpoints",
            folder.display(),
            model.vocab_size,
            tokenizer.vocab_size()
        );
        let parameters = tensors::read(&folder.join(MODEL), &expected(&model, &[""]))?;
        Ok(Self {
            folder: folder.to_owned(),
            model,
            parameters,
            tokenizer,
        })
    }

    /// The shape of a checkpoint's model, without its weights.
    ///
    /// # Errors
    /// `config.json` is missing or of another architecture.
    pub fn load_model_config(folder: &Path) -> Result<ModelConfig> {
        hugging_face::read_config(&folder.join(CONFIG))
    }

    /// Reads where the run stood, and the optimizer's moments.
    ///
    /// # Errors
    /// As [`load`](Self::load); a checkpoint that was imported or exported has none.
    pub fn load_progress(&self) -> Result<(Progress, Moments)> {
        let progress = read_progress(&self.folder)?;
        let both = tensors::read(&self.folder.join(OPTIMIZER), &expected(&self.model, &["m.", "v."]))?;
        let part = |prefix: &str| {
            let entries = both
                .iter()
                .filter_map(|(name, array)| Some((name.strip_prefix(prefix)?.to_owned(), array.clone())));
            Parameters::from_entries(entries.collect())
        };
        let moments = Moments {
            m: part("m."),
            v: part("v."),
        };
        Ok((progress, moments))
    }

    /// Writes the folder whole, or not at all: beside its place, flushed to disk, then renamed into it.
    ///
    /// # Errors
    /// The disk is full or the place cannot be written.
    pub fn save(&self, moments: &Moments, mut progress: Progress, sample: &str) -> Result<()> {
        atomic::write_folder(&self.folder, |making| {
            tensors::write(
                &making.join(MODEL),
                self.parameters.iter().map(|(name, array)| (name.to_owned(), array)),
            )?;
            let prefixed = |prefix: &'static str, parameters: &'_ Parameters| -> Vec<(String, mlx_rs::Array)> {
                parameters
                    .iter()
                    .map(|(name, array)| (format!("{prefix}{name}"), array.clone()))
                    .collect()
            };
            let both = [prefixed("m.", &moments.m), prefixed("v.", &moments.v)].concat();
            tensors::write(
                &making.join(OPTIMIZER),
                both.iter().map(|(name, array)| (name.clone(), array)),
            )?;
            for (name, json) in [
                (CONFIG, hugging_face::config_json(&self.model)),
                (TOKENIZER, self.tokenizer.to_json()),
                (TOKENIZER_CONFIG, self.tokenizer.config_json(self.model.context)),
            ] {
                fs::write(making.join(name), serde_json::to_string_pretty(&json)?)?;
            }
            fs::write(making.join(SAMPLE), sample)?;
            for entry in fs::read_dir(making)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                progress.files.insert(name, sha256_of(&entry.path())?);
            }
            fs::write(making.join(STATE), serde_json::to_string_pretty(&progress)?)?;
            Ok(())
        })
        .with_context(|| format!("checkpoint {} could not be written", self.folder.display()))
    }
}

/// Reads `state.json`.
///
/// # Errors
/// It is missing, not what this program writes, or of a newer format.
pub fn read_progress(folder: &Path) -> Result<Progress> {
    let path = folder.join(STATE);
    let bytes = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let progress: Progress =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is not a training state", path.display()))?;
    ensure!(
        progress.format <= FORMAT,
        "{} has format {}, this program knows up to {FORMAT}; use a newer mlx-gpt",
        path.display(),
        progress.format
    );
    Ok(progress)
}

/// Compares every file with the hash that was recorded when the checkpoint was written; the number of files.
///
/// # Errors
/// The first file that is missing or changed.
pub fn verify(folder: &Path) -> Result<usize> {
    let progress = read_progress(folder)?;
    for (name, recorded) in &progress.files {
        ensure!(
            Path::new(name).file_name() == Some(name.as_ref()),
            "{}: {name:?} is not the name of a file in this folder",
            folder.join(STATE).display()
        );
        let path = folder.join(name);
        ensure!(
            sha256_of(&path)? == *recorded,
            "{} was changed or damaged after it was written; use another checkpoint of the run",
            path.display()
        );
    }
    Ok(progress.files.len())
}

fn sha256_of(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&block[..read]),
        }
    }
}

/// The names and shapes that a file must have: the model's, once for each prefix.
fn expected(model: &ModelConfig, prefixes: &[&str]) -> BTreeMap<String, Vec<i32>> {
    prefixes
        .iter()
        .flat_map(|prefix| {
            layout(model)
                .into_iter()
                .map(move |spec| (format!("{prefix}{}", spec.name), spec.shape))
        })
        .collect()
}

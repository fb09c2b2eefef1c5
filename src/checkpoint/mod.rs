//! Runs and checkpoints on disk.
//!
//! A checkpoint ([`Checkpoint`]) is a folder in Hugging Face's format, with its tokenizer. A run ([`run::Run`]) is a folder of
//! checkpoints, with its configuration and metrics.
//!
//! ```no_run
//! use mlx_gpt::checkpoint::{Checkpoint, runs};
//! use std::path::Path;
//!
//! let folder = runs::find_checkpoint(Some(Path::new("runs/shakespeare-nano-20260101-120000")))?; // its newest
//! let checkpoint = Checkpoint::load(&folder)?;
//! for (name, array) in checkpoint.parameters.iter() {
//!     println!("{name} {:?}", array.shape()); // wte.weight [65, 128], and so on
//! }
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod base;
mod bos_eos;
mod foreign;
pub mod formats;
#[cfg(feature = "hub")]
pub mod hub;
pub mod import;
mod language_model;
pub mod run;
mod run_lock;
pub mod runs;
mod saving;
mod state;
mod tensors;
mod weights;

pub use state::{Best, CheckpointState, LossScale, Losses, Moments, has_hashes, read_state, read_state_if_any, verify};

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use crate::config::ModelConfig;
use crate::generate::{self, Generator, LanguageModel};
use crate::model::linear::lora;
use crate::model::parameters::Parameters;
use crate::terminal::shell::quoted;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::folder::{TOKENIZER, TOKENIZER_CONFIG};
use formats::{hugging_face, peft};
use tensors::{ExpectedTensors, TensorFile, TensorSpec};

const OPTIMIZER: &str = "optimizer.safetensors";
const CONFIG: &str = "config.json";
const SAMPLE: &str = "sample.txt";

/// Files that are only needed to resume training.
const ONLY_FOR_TRAINING: [&str; 2] = [OPTIMIZER, SAMPLE];

/// Maximum padding of a model's vocabulary beyond its tokenizer's: nanoGPT pads to a multiple of 64, Megatron to one of
/// 128 for each of its up to eight parts.
const MAX_VOCAB_PADDING: usize = 1024;

/// Whether a tokenizer of `tokens` tokens can belong to a model: its vocabulary may be padded. With more padding, the
/// tokenizer is more likely another model's.
fn vocab_matches(tokens: usize, vocab_size: usize) -> bool {
    tokens <= vocab_size && vocab_size - tokens < MAX_VOCAB_PADDING.min(tokens)
}

/// A trained model: its configuration, its parameters and its tokenizer.
pub struct Checkpoint {
    /// Its path.
    pub folder: PathBuf,
    /// The model's configuration.
    pub model: ModelConfig,
    /// The weights, float32 or quantized, with any adapters.
    pub parameters: Parameters,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The folder of the base weights, if the checkpoint holds adapters.
    pub base: Option<PathBuf>,
}

impl Checkpoint {
    /// Reads a checkpoint's model and tokenizer. Names and shapes of the weights must match `config.json`; attention masks and
    /// a tied output head are tolerated. Adapters are read together with their base model.
    ///
    /// # Errors
    /// A file that is missing or truncated; a tensor of another shape; an unsupported architecture; a tokenizer that does not
    /// match the vocabulary; a file that differs from its recorded hash.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::load_with(folder, |_| Tokenizer::load(folder))
    }

    /// As [`load`](Self::load), with the tokenizer that `tokenizer` returns.
    fn load_with(folder: &Path, tokenizer: impl FnOnce(&ModelConfig) -> Result<Tokenizer>) -> Result<Self> {
        ensure_is_model(folder)?;
        if peft::is_adapter_folder(folder) {
            Self::load_adapters(folder, tokenizer)
        } else {
            Self::load_whole(folder, tokenizer)
        }
    }

    /// In five stages: the configuration, the tokenizer, whether they belong together, the weights, and the recorded hashes.
    fn load_whole(folder: &Path, tokenizer: impl FnOnce(&ModelConfig) -> Result<Tokenizer>) -> Result<Self> {
        let model = hugging_face::read_config(&folder.join(CONFIG))?;
        let tokenizer = tokenizer(&model)?;
        ensure!(
            vocab_matches(tokenizer.vocab_size(), model.vocab_size),
            "checkpoint {}: its model has a vocabulary of {}, its tokenizer of {}; they belong to different checkpoints",
            folder.display(),
            model.vocab_size,
            tokenizer.vocab_size()
        );
        let parameters = weights::read(folder, &model)?;
        // After parsing, because a parse error is the more specific message.
        state::verify_files(folder, |name| !ONLY_FOR_TRAINING.contains(&name))?;
        Ok(Self {
            folder: folder.to_owned(),
            parameters,
            model,
            tokenizer,
            base: None,
        })
    }

    fn load_adapters(folder: &Path, tokenizer: impl FnOnce(&ModelConfig) -> Result<Tokenizer>) -> Result<Self> {
        let base = base::find(folder)?;
        ensure!(
            !peft::is_adapter_folder(&base),
            "the base model of the adapters in {} is {}, which has adapters itself; merge those into a model with: mlx-gpt export --checkpoint {} --format hf --out DIR, and name DIR in adapter_config.json",
            folder.display(),
            base.display(),
            quoted(&base)
        );
        // A run saves the tokenizer with the adapters; `peft` leaves it with the base model.
        let whole = Self::load_whole(&base, |model| {
            let without = !Tokenizer::is_in(folder) && Tokenizer::is_in(&base);
            if without {
                Tokenizer::load(&base)
            } else {
                tokenizer(model)
            }
        })?;
        ensure!(
            whole.model.quantization.is_none(),
            "the base model of the adapters in {} is quantized: {}; adapters cannot be added to it; name the checkpoint that it was exported from in adapter_config.json",
            folder.display(),
            base.display()
        );
        let (model, parameters) = peft::read(folder, whole.model, &whole.parameters)?;
        state::verify_files(folder, |name| !ONLY_FOR_TRAINING.contains(&name))?;
        Ok(Self {
            folder: folder.to_owned(),
            model,
            parameters,
            tokenizer: whole.tokenizer,
            base: Some(base),
        })
    }

    /// The model with its tokenizer, for text generation.
    ///
    /// # Errors
    /// A context whose key-value cache doesn't fit into memory.
    pub fn language_model(&self) -> Result<LanguageModel> {
        Ok(LanguageModel::new(
            &self.model,
            &self.parameters,
            self.tokenizer.clone(),
        )?)
    }

    /// A model's configuration, without its weights.
    ///
    /// # Errors
    /// Nothing there, or a `config.json` that is missing or of another architecture.
    pub fn load_model_config(folder: &Path) -> Result<ModelConfig> {
        ensure_is_model(folder)?;
        if peft::is_adapter_folder(folder) && !folder.join(CONFIG).exists() {
            return hugging_face::read_config(&base::find(folder)?.join(CONFIG));
        }
        hugging_face::read_config(&folder.join(CONFIG))
    }

    /// A generator of token sequences, which only samples ids that the tokenizer has a token for.
    ///
    /// # Errors
    /// As [`Generator::new`].
    pub fn generator(&self) -> Result<Generator> {
        Ok(Generator::new(&self.model, &self.parameters)?.for_tokenizer(&self.tokenizer))
    }

    /// The eos tokens: those that the model's files name, or else the tokenizer's.
    pub fn eos_tokens(&self) -> Vec<u32> {
        generate::bos_eos::eos_tokens(&self.model, &self.tokenizer)
    }

    /// The bos token, if there is one.
    pub fn bos_token(&self) -> Option<u32> {
        generate::bos_eos::bos_token(&self.model, &self.tokenizer)
    }

    /// The default prompt.
    pub fn default_prompt(&self) -> Vec<u32> {
        generate::bos_eos::default_prompt(&self.model, &self.tokenizer)
    }

    /// The sample that was saved with it, or an empty string.
    pub fn load_sample(&self) -> String {
        fs::read_to_string(self.folder.join(SAMPLE)).unwrap_or_default()
    }

    /// Reads the training state and the optimizer's moments: m for all trainable parameters (`trainable`), v for those that AdamW updates (`with_v`).
    /// They have the shapes of their parameters.
    ///
    /// # Errors
    /// As [`load`](Self::load); an imported or exported checkpoint has no training state.
    pub fn load_state(&self, trainable: &Parameters, with_v: &Parameters) -> Result<(CheckpointState, Moments)> {
        let state = read_state(&self.folder)?;
        let expected: ExpectedTensors = [("m.", trainable), ("v.", with_v)]
            .into_iter()
            .flat_map(|(prefix, parameters)| {
                parameters
                    .iter()
                    .map(move |(name, array)| (format!("{prefix}{name}"), TensorSpec::float(array.shape().to_vec())))
            })
            .collect();
        let file = TensorFile::open(&self.folder.join(OPTIMIZER))?;
        let both = tensors::read(&[file], |name| Some(name.to_owned()), &expected)?;
        state::verify_files(&self.folder, |name| name == OPTIMIZER)?;
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
        Ok((state, moments))
    }

    /// The same model with its adapters merged into the base weights.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn merged(self) -> Result<Self> {
        let (model, parameters) = lora::merge(&self.model, &self.parameters)?;
        Ok(Self {
            model,
            parameters,
            base: None,
            ..self
        })
    }
}

/// # Errors
/// Nothing is in `folder`, or a model in files that are not read.
fn ensure_is_model(folder: &Path) -> Result<()> {
    let is_one = folder.join(CONFIG).exists() || peft::is_adapter_folder(folder);
    if let Some(hint) = foreign::hint(folder).filter(|_| !is_one) {
        bail!(hint);
    }
    ensure!(
        folder.is_dir(),
        "checkpoint {} does not exist; `mlx-gpt runs` lists the runs",
        folder.display()
    );
    Ok(())
}

//! Runs and checkpoints on disk.
//!
//! A checkpoint ([`Checkpoint`]) is a folder in Hugging Face's format, with its tokenizer. A run ([`run::Run`]) is a folder of
//! checkpoints, with its configuration and metrics.
//!
//! | file | contents |
//! |---|---|
//! | `run.rs`, `run_lock.rs`, `runs.rs` | a run's folder; finding runs and checkpoints |
//! | `load.rs` | from a path to a loaded model, in five steps |
//! | `save.rs` | the reverse |
//! | `chat.rs` | a chat template and its tokens for a model that has none |
//! | `weights.rs`, `tensors.rs`, `bos_eos.rs` | what both read and write: tensors by name, in safetensors files; bos and eos ids |
//! | `state.rs`, `hashes.rs` | `state.json`: what resuming needs; the hashes that verify all files |
//! | `base.rs` | the base model of low-rank adapters |
//! | `reference.rs`, `pair_logprobs.rs` | the model that a run is tuned from by rewards or preferences, and what it says of its pairs |
//! | `import.rs`, `hub.rs`, `formats/`, `unsupported.rs` | models of other programs |
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

mod apart;
pub mod base;
mod bos_eos;
mod chat;
pub mod formats;
mod hashes;
#[cfg(feature = "hub")]
pub mod hub;
pub mod import;
mod load;
mod pair_logprobs;
pub mod reference;
pub mod run;
mod run_lock;
pub mod runs;
mod save;
mod state;
mod tensors;
mod unsupported;
mod weights;

pub use apart::Apart;
pub use chat::{end_of_turn, with_chat_tokens};
pub use hashes::{has_hashes, verify};
pub use pair_logprobs::PairLogprobs;
pub use state::{Best, CheckpointState, LossLevel, LossScale, Losses, Moments, Pace, read_state, read_state_if_any};
pub use weights::WEIGHTS_FILE;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::config::ModelConfig;
use crate::error;
use crate::generate::{self, Generator, LanguageModel};
use crate::model::linear::lora;
use crate::model::parameters::Parameters;
use crate::model::vocabulary;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::ChatTemplate;
use crate::tokenizer::folder::{MODEL_CONFIG, TOKENIZER, TOKENIZER_CONFIG};

/// The optimizer's moments, in a checkpoint's folder.
const OPTIMIZER: &str = "optimizer.safetensors";
/// What ranks that train apart have of their own.
const APART: &str = "apart.safetensors";
/// Log-probabilities of preference pairs under the reference model.
const PAIRS: &str = "pairs.safetensors";
/// The text that the model generated when it was saved.
const SAMPLE: &str = "sample.txt";

/// A trained model: its configuration, its parameters and its tokenizer.
#[derive(Clone)]
pub struct Checkpoint {
    /// Its path.
    pub folder: PathBuf,
    /// The model's configuration.
    pub model: ModelConfig,
    /// The weights, float32 or quantized, with any adapters; after [`load_mapped`](Self::load_mapped) also of 16 bits.
    pub parameters: Parameters,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// How its conversations are written, if it is a chat model.
    pub chat_template: Option<ChatTemplate>,
    /// The folder of the base weights, if the checkpoint holds adapters.
    pub base: Option<PathBuf>,
}

impl Checkpoint {
    /// The model with its tokenizer, for text generation. A program that only generates takes [`LanguageModel::load`].
    ///
    /// # Errors
    /// A context whose key-value cache doesn't fit into memory.
    pub fn language_model(&self) -> error::Result<LanguageModel> {
        LanguageModel::new(&self.model, &self.parameters, self.tokenizer.clone())
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
        fs::read_to_string(Self::sample_path(&self.folder)).unwrap_or_default()
    }

    /// Where a checkpoint's sample is.
    pub fn sample_path(folder: &Path) -> PathBuf {
        folder.join(SAMPLE)
    }

    /// The same model with further special tokens in its vocabulary: in the tokenizer, and as rows of the embedding and the head,
    /// which are the means of the other rows. All other weights stay as they are. In memory alone; `folder` is still the old one.
    ///
    /// # Errors
    /// As [`Tokenizer::with_special_tokens`] and [`vocabulary::add_tokens`]; adapters, which belong to another folder's weights.
    pub fn with_special_tokens(self, tokens: &[&str]) -> Result<Self> {
        let tokenizer = self.tokenizer.with_special_tokens(tokens)?;
        self.with_tokens_of(tokenizer)
    }

    /// The same with the tokens that `tokenizer` has beyond its own.
    fn with_tokens_of(self, tokenizer: Tokenizer) -> Result<Self> {
        ensure!(
            self.base.is_none(),
            "{} holds adapters; merge them before tokens are added: mlx-gpt export --format hf",
            self.folder.display()
        );
        let first = self.tokenizer.vocab_size();
        let (model, parameters) = match tokenizer.vocab_size() - first {
            0 => (self.model, self.parameters),
            new => vocabulary::add_tokens(&self.model, &self.parameters, first, new)?,
        };
        Ok(Self {
            model,
            parameters,
            tokenizer,
            ..self
        })
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

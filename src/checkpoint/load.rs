//! From a path to a loaded model, in this order:
//!
//! 1. the folder: a checkpoint's own, or a run's newest ([`runs`]);
//! 2. `config.json` ([`hugging_face`]);
//! 3. the tokenizer, which must match the vocabulary ([`Tokenizer::load`]);
//! 4. the weights, whose names and shapes must be the model's (`weights.rs`);
//! 5. the recorded hashes, which the files must have (`hashes.rs`).
//!
//! Of a folder with adapters, the base model is found and loaded first (`base.rs`), then the adapters ([`peft`]).
//! [`Checkpoint::load_state`] reads the rest, for resuming.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::formats::{hugging_face, peft};
use super::tensors::{self, ExpectedTensors, Hold, TensorFile, TensorSpec};
use super::{
    APART, Apart, Checkpoint, CheckpointState, MODEL_CONFIG, Moments, OPTIMIZER, PAIRS, SAMPLE, base, hashes,
    read_state, runs, unsupported, weights,
};
use crate::config::ModelConfig;
use crate::error::{self, Error, ErrorKind, OfKind};
use crate::generate::LanguageModel;
use crate::model::parameters::Parameters;
use crate::terminal::shell::quoted;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::ChatTemplate;

/// Files that are only needed to resume training.
const ONLY_FOR_TRAINING: [&str; 4] = [OPTIMIZER, APART, PAIRS, SAMPLE];

impl LanguageModel {
    /// Loads the model of a checkpoint's folder, or of a run's newest checkpoint, and checks it against its configuration and
    /// its recorded hashes.
    ///
    /// This is [`Checkpoint::load_mapped`] and [`Checkpoint::language_model`] in one call. The program's commands make both, since they
    /// also use the weights or the folder.
    ///
    /// # Errors
    /// The path does not exist, or the checkpoint is damaged or of an unsupported kind.
    pub fn load(path: impl AsRef<Path>) -> error::Result<Self> {
        let path = path.as_ref();
        if !path.exists() {
            let missing = anyhow::anyhow!(
                "there is no checkpoint at {}; give a run's folder or a checkpoint's",
                path.display()
            );
            return Err(Error::new(ErrorKind::NotFound, missing));
        }
        runs::read_checkpoint(Some(path), Checkpoint::load_mapped)
            .of_kind(ErrorKind::Checkpoint)?
            .language_model()
    }
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

    /// As [`load`](Self::load), for text generation alone: where MLX can compute with them, weights stay in the pages of their
    /// file, which must not be written to meanwhile, and, if they are stored in 16 bits, in those. (This program's files are
    /// replaced and never written to.)
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_mapped(folder: &Path) -> Result<Self> {
        ensure_is_model(folder)?;
        let tokenizer = |_: &ModelConfig| Tokenizer::load(folder);
        match peft::is_adapter_folder(folder) {
            true => Self::load_adapters(folder, tokenizer), // they may be merged into the weights
            false => Self::load_full(folder, tokenizer, Hold::Mapped),
        }
    }

    /// As [`load`](Self::load), with the tokenizer that `tokenizer` returns.
    pub(super) fn load_with(folder: &Path, tokenizer: impl FnOnce(&ModelConfig) -> Result<Tokenizer>) -> Result<Self> {
        ensure_is_model(folder)?;
        if peft::is_adapter_folder(folder) {
            Self::load_adapters(folder, tokenizer)
        } else {
            Self::load_full(folder, tokenizer, Hold::Copied)
        }
    }

    /// A folder with all of the model's weights.
    fn load_full(folder: &Path, tokenizer: impl FnOnce(&ModelConfig) -> Result<Tokenizer>, hold: Hold) -> Result<Self> {
        let model = hugging_face::read_config(&folder.join(MODEL_CONFIG))?;
        let tokenizer = tokenizer(&model)?;
        ensure!(
            vocab_matches(tokenizer.vocab_size(), model.vocab_size),
            "checkpoint {}: its model has a vocabulary of {}, its tokenizer of {}; they belong to different checkpoints",
            folder.display(),
            model.vocab_size,
            tokenizer.vocab_size()
        );
        let parameters = weights::read(folder, &model, hold)?;
        // After parsing, because a parse error is the more specific message.
        hashes::verify_files(folder, |name| !ONLY_FOR_TRAINING.contains(&name))?;
        Ok(Self {
            folder: folder.to_owned(),
            parameters,
            model,
            tokenizer,
            chat_template: ChatTemplate::read(folder).with_context(|| folder.display().to_string())?,
            base: None,
        })
    }

    /// A folder with adapters, whose base model is elsewhere.
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
        let tokenizer = |model: &ModelConfig| {
            let only_base_has_one = !Tokenizer::is_in(folder) && Tokenizer::is_in(&base);
            if only_base_has_one {
                Tokenizer::load(&base)
            } else {
                tokenizer(model)
            }
        };
        let base_model = Self::load_full(&base, tokenizer, Hold::Copied)?;
        ensure!(
            base_model.model.quantization.is_none(),
            "the base model of the adapters in {} is quantized: {}; adapters cannot be added to it; name the checkpoint that it was exported from in adapter_config.json",
            folder.display(),
            base.display()
        );
        let (model, parameters) = peft::read(folder, base_model.model, &base_model.parameters)?;
        hashes::verify_files(folder, |name| !ONLY_FOR_TRAINING.contains(&name))?;
        let own = ChatTemplate::read(folder).with_context(|| folder.display().to_string())?;
        Ok(Self {
            folder: folder.to_owned(),
            model,
            parameters,
            tokenizer: base_model.tokenizer,
            chat_template: own.or(base_model.chat_template),
            base: Some(base),
        })
    }

    /// A model's configuration, without its weights.
    ///
    /// # Errors
    /// Nothing there, or a `config.json` that is missing or of another architecture.
    pub fn load_model_config(folder: &Path) -> Result<ModelConfig> {
        ensure_is_model(folder)?;
        if peft::is_adapter_folder(folder) && !folder.join(MODEL_CONFIG).exists() {
            return hugging_face::read_config(&base::find(folder)?.join(MODEL_CONFIG));
        }
        hugging_face::read_config(&folder.join(MODEL_CONFIG))
    }

    /// Reads what only resuming needs: the training state and the optimizer's moments, m for all trainable parameters
    /// (`trainable`), v for those that AdamW updates (`with_v`). They have the shapes of their parameters.
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
        let both = tensors::read(&[file], |name| Some(name.to_owned()), &expected, Hold::Copied)?;
        hashes::verify_files(&self.folder, |name| name == OPTIMIZER)?;
        let part = |prefix: &str| {
            let entries = both
                .iter()
                .filter_map(|(name, array)| Some((name.strip_prefix(prefix)?.to_owned(), array.clone())));
            Parameters::from_entries(entries.collect())
        };
        let (m, v) = (part("m."), part("v."));
        let apart = Apart::read(&self.folder, &m, &v)?;
        let moments = Moments {
            m,
            v,
            apart,
            pair_logprobs: None,
        };
        Ok((state, moments))
    }
}

/// # Errors
/// Nothing is in `folder`, or a model in files that are not read.
fn ensure_is_model(folder: &Path) -> Result<()> {
    let is_checkpoint = folder.join(MODEL_CONFIG).exists() || peft::is_adapter_folder(folder);
    if let Some(hint) = unsupported::hint(folder).filter(|_| !is_checkpoint) {
        bail!(hint);
    }
    ensure!(
        folder.is_dir(),
        "checkpoint {} does not exist; `mlx-gpt runs` lists the runs",
        folder.display()
    );
    Ok(())
}

/// The largest number to a multiple of which a model's vocabulary is padded: nanoGPT takes 64, Megatron 128 for each of its up to
/// eight parts. So it is padded by fewer ids than this.
const VOCAB_MULTIPLE: usize = 1024;

/// Whether a tokenizer of `tokens` tokens can belong to a model: its vocabulary may be padded. With more padding, the
/// tokenizer is more likely another model's.
fn vocab_matches(tokens: usize, vocab_size: usize) -> bool {
    tokens <= vocab_size && vocab_size - tokens < VOCAB_MULTIPLE.min(tokens)
}

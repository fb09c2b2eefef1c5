//! What a run starts from: random weights, those of a checkpoint, or its own newest checkpoint.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::freeze;
use super::optimizers::has_v;
use super::step::TrainState;
use crate::checkpoint::formats::peft;
use crate::checkpoint::run::Run;
use crate::checkpoint::{self, Checkpoint, Moments, Progress};
use crate::compute::memory;
use crate::config::{ModelConfig, TrainConfig};
use crate::data::corpus::Split;
use crate::data::dataset::Dataset;
use crate::data::tokens::Tokens;
use crate::model::init;
use crate::tokenizer::Tokenizer;

/// A run in memory before its next step, without a folder.
pub struct Setup {
    pub model: ModelConfig,
    pub tokenizer: Tokenizer,
    pub train_tokens: Tokens,
    pub val_tokens: Tokens,
    pub state: TrainState,
    pub progress: Progress,
    /// The folder of the weights that adapters are trained for, if there are any.
    pub base: Option<PathBuf>,
    /// The sample of the last evaluation.
    pub sample: String,
}

impl Setup {
    /// A new run's: random weights, or those of the configuration's `init_from`.
    ///
    /// # Errors
    /// A configuration, a corpus or a checkpoint that cannot be trained with.
    pub fn new(config: &TrainConfig, dataset: &Dataset) -> Result<Self> {
        config.validate()?;
        let (model, tokenizer, parameters, base) = match &config.init_from {
            None => {
                let tokenizer = dataset.tokenizer(&config.tokenizer)?;
                let model = config.model(tokenizer.vocab_size());
                (model, tokenizer, None, None)
            }
            Some(path) => {
                let (checkpoint, base) = starting_point(config, Path::new(path))?;
                let model = ModelConfig {
                    dropout: config.dropout,
                    lora: config.lora(),
                    ..checkpoint.model
                };
                (model, checkpoint.tokenizer, Some(checkpoint.parameters), base)
            }
        };
        model.validate()?;
        ensure!(
            config.context <= model.context,
            "context {} is over the {} of the model that the run starts from; choose --context {1} or less",
            config.context,
            model.context
        );
        ensure_fits(config, &model)?;
        let (train_tokens, val_tokens) = tokenize(config, &tokenizer, dataset)?;
        let parameters = match parameters {
            None => init::initialize(&model, config.seed)?,
            Some(parameters) => parameters.with(&init::initialize_adapters(&model, config.seed)?),
        };
        let (learning, frozen) = freeze::partition(config, &parameters)?;
        let hash = base.as_deref().map(peft::hash_of_base).transpose()?;
        Ok(Self {
            model,
            tokenizer,
            train_tokens,
            val_tokens,
            state: TrainState::new(learning, frozen, config.optimizer)?,
            progress: Progress::new(config.seed, dataset.record()?, hash),
            base,
            sample: String::new(),
        })
    }

    /// A resumed run's: its newest checkpoint.
    ///
    /// # Errors
    /// A damaged checkpoint, a corpus that is not the one that it learned from, or another model.
    pub fn resume(run: &Run, config: &TrainConfig, dataset: &Dataset) -> Result<Self> {
        let folder = run.newest_checkpoint()?;
        checkpoint::verify(&folder)?;
        let mut checkpoint = Checkpoint::load(&folder)?;
        let (learning, frozen) = freeze::partition(config, &checkpoint.parameters)?;
        let (with_v, _) = learning.partition(|name, array| has_v(config.optimizer, name, array.shape()));
        let (progress, Moments { m, v }) = checkpoint.load_progress(&learning, &with_v)?;
        ensure!(
            progress.corpus == dataset.record()?,
            "corpus {} is not the text that the run learned from; put the old text back, or start a new run with --init-from {}",
            config.corpus,
            folder.display()
        );
        ensure!(
            config.steps >= progress.step,
            "steps {} are fewer than the {} that the run has done; give more, or none",
            config.steps,
            progress.step
        );
        checkpoint.model.dropout = config.dropout;
        checkpoint.model.validate()?;
        let model = &checkpoint.model;
        let configured = ModelConfig {
            context: model.context,
            ..config.model(model.vocab_size)
        };
        ensure!(
            configured == *model && config.context <= model.context && config.seed == progress.seed,
            "{} is not the configuration that {} was trained with: the model, context, seed or adapters differ; put the old one back",
            run.config_path().display(),
            folder.display()
        );
        ensure_fits(config, model)?;
        let (train_tokens, val_tokens) = tokenize(config, &checkpoint.tokenizer, dataset)?;
        Ok(Self {
            sample: checkpoint.load_sample(),
            model: checkpoint.model,
            tokenizer: checkpoint.tokenizer,
            train_tokens,
            val_tokens,
            state: TrainState {
                step: progress.step,
                parameters: learning,
                frozen,
                m,
                v,
                skipped: progress.skipped,
                loss_scale: progress.loss_scale,
            },
            progress,
            base: checkpoint.base,
        })
    }
}

/// The checkpoint to start from, and its folder if adapters are trained for it.
fn starting_point(config: &TrainConfig, folder: &Path) -> Result<(Checkpoint, Option<PathBuf>)> {
    let checkpoint = Checkpoint::load(folder)?;
    ensure!(
        checkpoint.model.quantization.is_none(),
        "the weights in {} are quantized, which cannot be trained; start from the checkpoint that they were exported from",
        folder.display()
    );
    if config.lora_rank == 0 {
        return Ok((checkpoint.merged()?, None));
    }
    ensure!(
        checkpoint.base.is_none(),
        "{} holds adapters itself; merge them into a model first with: mlx-gpt export --format hf",
        folder.display()
    );
    ensure!(
        folder.join("model.safetensors").exists(),
        "the weights in {} are in shards, which adapters cannot point at; import it first",
        folder.display()
    );
    Ok((checkpoint, Some(folder.to_owned())))
}

/// # Errors
/// A step needs more memory than the machine has.
fn ensure_fits(config: &TrainConfig, model: &ModelConfig) -> Result<()> {
    let learning = freeze::learning_count(config, model)?;
    memory::ensure_fits(
        format_args!(
            "a step of {} rows of {} tokens through {} layers of width {}",
            config.batch_size, config.context, model.layers, model.embd
        ),
        memory::of_step(config, model, init::parameter_count(model), learning),
        "lower --batch-size (--grad-accum makes up for it) or --context, or choose a smaller --preset",
    )
}

/// The tokens to train on and those to validate on; each must be a row and the token after it at least.
fn tokenize(config: &TrainConfig, tokenizer: &Tokenizer, dataset: &Dataset) -> Result<(Tokens, Tokens)> {
    let part = |name: &str, split| {
        let tokens = dataset.part(tokenizer, split)?.tokens;
        ensure!(
            tokens.len() > config.context,
            "corpus {} is too short: its {name} part has {} tokens, a context of {} needs more than that; use more text or a smaller --context",
            config.corpus,
            tokens.len(),
            config.context
        );
        Ok(tokens)
    };
    Ok((part("training", Split::Train)?, part("validation", Split::Val)?))
}

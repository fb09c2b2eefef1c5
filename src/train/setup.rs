//! The initial state of a run: random weights, those of a checkpoint, or its own newest checkpoint.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Result, ensure};

use super::chat;
use super::freeze;
use super::optimizers::uses_adamw;
use super::session::less_memory;
use super::step::{Stepper, TrainState};
use crate::checkpoint::run::Run;
use crate::checkpoint::{self, Apart, Checkpoint, CheckpointState, Moments, PairLogprobs, WEIGHTS_FILE, reference};
use crate::compute::memory;
use crate::compute::ranks::Ranks;
use crate::config::{ModelConfig, Objective, TrainConfig};
use crate::data::corpus::Split;
use crate::data::dataset::Dataset;
use crate::data::source::Source;
use crate::data::tasks::TaskData;
use crate::data::tokens::Tokens;
use crate::evaluate::Evaluator;
use crate::model::init;
use crate::terminal::shell::quoted;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::ChatTemplate;

/// The state of a run before its next step.
pub struct Setup {
    pub model: ModelConfig,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// How conversations are written, if the model has a chat template.
    pub chat_template: Option<ChatTemplate>,
    /// The training split.
    pub train: Source,
    /// The validation split.
    pub val: Source,
    /// The task, if it is one.
    pub task: Option<TaskData>,
    /// Parameters and moments.
    pub state: TrainState,
    /// Training state of the last checkpoint.
    pub saved: CheckpointState,
    /// The checkpoint of the base weights, if only adapters are trained.
    pub base: Option<PathBuf>,
    /// Sample of the last evaluation.
    pub sample: String,
    /// What the checkpoint has of ranks that train apart.
    pub apart: Option<Apart>,
    /// The model that the run is tuned from by rewards or preferences.
    pub reference: Option<Checkpoint>,
    /// What that says of the pairs, of a resumed run.
    pub pair_logprobs: Option<PairLogprobs>,
}

impl Setup {
    /// The state of a new run: random weights, or those of the configuration's `init_from`.
    ///
    /// # Errors
    /// A configuration, a corpus or a checkpoint that cannot be trained with; a device that is not there.
    pub fn new(config: &TrainConfig, dataset: &Dataset) -> Result<Self> {
        config.validate()?;
        config.device.select()?;
        let mut reference = None;
        let (model, tokenizer, chat_template, parameters, base) = match &config.init_from {
            None => {
                let (tokenizer, chat_template) = chat::tokenizer(config, dataset)?;
                let model = ModelConfig {
                    bos_eos: chat::bos_eos(&tokenizer),
                    ..config.model_config(tokenizer.vocab_size())
                };
                (model, tokenizer, chat_template, None, None)
            }
            Some(path) => {
                let (checkpoint, base) = starting_point(config, Path::new(path))?;
                if config.objective() != Objective::NextToken {
                    reference = Some(checkpoint.clone());
                }
                let checkpoint = chat::finetuned(config, checkpoint, dataset)?;
                let model = ModelConfig {
                    dropout: config.dropout,
                    lora: config.lora(),
                    ..checkpoint.model
                };
                let (tokenizer, chat_template) = (checkpoint.tokenizer, checkpoint.chat_template);
                (model, tokenizer, chat_template, Some(checkpoint.parameters), base)
            }
        };
        model.validate()?;
        ensure!(
            config.context <= model.context,
            "context {} is over the {} of the model that the run starts from; choose --context {1} or less",
            config.context,
            model.context
        );
        ensure_fits(config, &model, false)?;
        let (train, val) = sources(config, &tokenizer, chat_template.as_ref(), dataset)?;
        let parameters = match parameters {
            None => init::initialize(&model, config.seed)?,
            Some(parameters) => parameters.union(&init::initialize_adapters(&model, config.seed)?),
        };
        let (trainable, frozen) = freeze::partition(config, &parameters)?;
        let hash = base.as_deref().map(checkpoint::base::hash).transpose()?;
        Ok(Self {
            model,
            tokenizer,
            chat_template,
            train,
            val,
            task: dataset.task().cloned(),
            state: TrainState::new(trainable, frozen, config.optimizer)?,
            saved: CheckpointState::new(config.seed, dataset.record()?, hash),
            base,
            sample: String::new(),
            apart: None,
            reference,
            pair_logprobs: None,
        })
    }

    /// The state of a resumed run: its newest checkpoint.
    ///
    /// # Errors
    /// A damaged checkpoint, another corpus than the run was trained on, or another model.
    pub fn resume(run: &Run, config: &TrainConfig, dataset: &Dataset) -> Result<Self> {
        config.device.select()?;
        let folder = run.newest_checkpoint()?;
        checkpoint::verify(&folder)?;
        let (mut checkpoint, saved, state, apart) = load(config, &folder)?;
        let same = saved.corpus == dataset.record()?;
        for (file, option) in [(&config.chat, "--chat"), (&config.preferences, "--preferences")] {
            let Some(file) = file else { continue };
            ensure!(
                same,
                "{file} is not what the run was trained on; restore that file, give its path with {option}, or start a new run with --init-from {}",
                quoted(&folder)
            );
        }
        ensure!(
            same,
            "corpus {} is not the text that the run was trained on; restore that text, give its path with --corpus, or start a new run with --init-from {}",
            config.corpus,
            quoted(&folder)
        );
        ensure_same_tokenizer(config, &saved, dataset, &checkpoint.tokenizer)?;
        ensure!(
            config.steps >= saved.step || saved.pace.is_some(),
            "steps {} are fewer than the {} that the run has done; give more, or leave --steps out",
            config.steps,
            saved.step
        );
        checkpoint.model.dropout = config.dropout;
        checkpoint.model.validate()?;
        let model = &checkpoint.model;
        let configured = ModelConfig {
            context: model.context,
            bos_eos: model.bos_eos.clone(),
            ..config.model_config(model.vocab_size)
        };
        ensure!(
            configured == *model && config.context <= model.context && config.seed == saved.seed,
            "{} is not the configuration that {} was trained with: the model, context, seed or adapters differ; restore that one",
            run.config_path().display(),
            folder.display()
        );
        ensure_fits(config, model, true)?;
        let template = checkpoint.chat_template.as_ref();
        let (train, val) = sources(config, &checkpoint.tokenizer, template, dataset)?;
        let reference = saved
            .reference
            .as_deref()
            .map(|hash| reference::load(run, hash))
            .transpose()?;
        let pair_logprobs = match (train.pairs(), val.pairs()) {
            (Some(train), Some(val)) => Some(PairLogprobs::read(&folder, [train.len(), val.len()])?),
            _ => None,
        };
        Ok(Self {
            sample: checkpoint.load_sample(),
            model: checkpoint.model,
            tokenizer: checkpoint.tokenizer,
            chat_template: checkpoint.chat_template,
            train,
            val,
            task: dataset.task().cloned(),
            state,
            saved,
            base: checkpoint.base,
            apart,
            reference,
            pair_logprobs,
        })
    }

    /// Keeps the reference model in the run, if there is one and no checkpoint yet.
    ///
    /// # Errors
    /// The disk is full or cannot be written.
    pub fn keep_reference(&mut self, run: &Run) -> Result<()> {
        if let (Some(reference), 0) = (&self.reference, self.saved.step) {
            self.saved.reference = Some(reference::keep(run, reference)?);
        }
        Ok(())
    }

    /// The optimizer steps of a run from here, taken together with other `ranks`, if there are any.
    ///
    /// # Errors
    /// A thread cannot be started; there are fewer rows than ranks.
    pub fn stepper(&self, config: &TrainConfig, ranks: Option<&Rc<Ranks>>) -> Result<Stepper> {
        let stepper = Stepper::among(ranks, config, &self.model, &self.state.parameters, &self.state.frozen)?;
        let mut stepper = stepper.with_training_tokens(self.train.tokens().map(Tokens::len));
        stepper.set_retry(self.state.retry);
        Ok(stepper)
    }

    /// What evaluates the run's losses.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn evaluator(&self, config: &TrainConfig) -> Result<Evaluator> {
        Evaluator::new(
            &self.model,
            self.state.model_parameters().names(),
            config.compute_threads(),
        )
    }
}

/// A checkpoint of a run, and the state of the training there, also that of ranks that train apart.
///
/// # Errors
/// A checkpoint that training did not write, or is damaged.
pub(super) fn load(
    config: &TrainConfig,
    folder: &Path,
) -> Result<(Checkpoint, CheckpointState, TrainState, Option<Apart>)> {
    let checkpoint = Checkpoint::load(folder)?;
    let (parameters, frozen) = freeze::partition(config, &checkpoint.parameters)?;
    let (with_v, _) = parameters.partition(|name, array| uses_adamw(config.optimizer, name, array.shape()));
    let (saved, Moments { m, v, apart, .. }) = checkpoint.load_state(&parameters, &with_v)?;
    let state = TrainState {
        step: saved.step,
        parameters,
        frozen,
        m,
        v,
        skipped: saved.skipped,
        loss_scale: saved.loss_scale,
        retry: saved.retry,
        loss_level: saved.loss_level,
        pace: saved.pace,
    };
    Ok((checkpoint, saved, state, apart))
}

/// # Errors
/// The configured tokenizer differs from the checkpoint's, in its contents and not only in its path.
fn ensure_same_tokenizer(
    config: &TrainConfig,
    saved: &CheckpointState,
    dataset: &Dataset,
    own: &Tokenizer,
) -> Result<()> {
    let before = saved.config.as_ref().map(|config| &config.tokenizer);
    if before.is_none_or(|before| *before == config.tokenizer) {
        return Ok(());
    }
    ensure!(
        dataset.tokenizer(&config.tokenizer)?.to_json() == own.to_json(),
        "--tokenizer {} cannot change on resume: the run was trained with {}; leave it out",
        config.tokenizer,
        before.map_or("another", String::as_str)
    );
    Ok(())
}

/// The checkpoint to start from, and its folder if it is the base of adapters.
fn starting_point(config: &TrainConfig, folder: &Path) -> Result<(Checkpoint, Option<PathBuf>)> {
    let checkpoint = Checkpoint::load(folder)?;
    ensure!(
        checkpoint.model.quantization.is_none(),
        "the weights in {} are quantized and cannot be trained; start from the checkpoint that they were exported from",
        folder.display()
    );
    if config.lora_rank == 0 {
        return Ok((checkpoint.merged()?, None));
    }
    ensure!(
        checkpoint.base.is_none(),
        "{} has adapters itself; merge them into a model first with: mlx-gpt export --checkpoint {} --format hf --out DIR",
        folder.display(),
        quoted(folder)
    );
    ensure!(
        folder.join(WEIGHTS_FILE).exists(),
        "the weights in {} are in shards, which the base of adapters cannot be; import it first with: mlx-gpt import {} --out DIR",
        folder.display(),
        quoted(folder)
    );
    Ok((checkpoint, Some(folder.to_owned())))
}

/// # Errors
/// A step needs more memory than the machine has.
fn ensure_fits(config: &TrainConfig, model: &ModelConfig, begun: bool) -> Result<()> {
    let trainable = freeze::trainable_count(config, model)?;
    memory::ensure_fits(
        format_args!(
            "a step of {} rows of {} tokens through {} layers of width {}",
            config.batch_size, config.context, model.layers, model.embd
        ),
        memory::training_step_bytes(config, model, init::parameter_count(model), trainable),
        &less_memory(config, begun),
    )
}

/// The training and the validation split; of a text, each must have at least one row and the token after it.
pub(super) fn sources(
    config: &TrainConfig,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    dataset: &Dataset,
) -> Result<(Source, Source)> {
    let source_of = |name: &str, split| {
        if let Dataset::Preferences(data) = dataset {
            return Ok(Source::Pairs(data.pairs(
                &data.split(split)?,
                tokenizer,
                template,
                config.context,
            )?));
        }
        let source = dataset.source(tokenizer, template, split, config)?;
        if let Some(conversations) = source.conversations() {
            chat::ensure_any(config, name, conversations)?;
        }
        let Some(tokens) = source.tokens() else {
            return Ok(source);
        };
        ensure!(
            tokens.len() > config.context,
            "corpus {} is too short: its {name} part has {} tokens, a context of {} needs more than that; use more text or a smaller --context",
            config.corpus,
            tokens.len(),
            config.context
        );
        Ok(source)
    };
    Ok((
        source_of("training", Split::Train)?,
        source_of("validation", Split::Val)?,
    ))
}

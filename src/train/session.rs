//! A training run in memory: made new, or read back from its newest checkpoint.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::evaluate::Evaluator;
use super::metrics::Metrics;
use super::step::{Stepper, TrainState};
use crate::checkpoint::run::Run;
use crate::checkpoint::{self, Checkpoint, Losses, Moments, Progress};
use crate::config::{ModelConfig, TrainConfig};
use crate::data::batches;
use crate::data::corpus::Split;
use crate::data::dataset::Dataset;
use crate::data::tokens::Tokens;
use crate::generate::Generator;
use crate::generate::sampler::Sampling;
use crate::model::init;
use crate::tokenizer::Tokenizer;

/// Tokens of the sample that an evaluation writes.
const SAMPLE_TOKENS: usize = 300;

/// Everything that the loop works on.
pub struct Session {
    pub(super) config: TrainConfig,
    pub(super) model: ModelConfig,
    pub(super) tokenizer: Tokenizer,
    pub(super) train_tokens: Tokens,
    pub(super) val_tokens: Tokens,
    pub(super) run: Run,
    pub(super) state: TrainState,
    pub(super) stepper: Stepper,
    pub(super) evaluator: Evaluator,
    pub(super) progress: Progress,
    pub(super) metrics: Metrics,
    /// Text of the last evaluation.
    pub(super) sample: String,
}

/// A run before its first step, without a folder.
struct Beginning {
    model: ModelConfig,
    tokenizer: Tokenizer,
    tokens: (Tokens, Tokens),
    state: TrainState,
    progress: Progress,
}

impl Session {
    /// A new run in `folder`.
    ///
    /// # Errors
    /// A configuration, corpus or checkpoint that cannot be trained with; a folder that holds a run already. Nothing
    /// is left behind.
    pub fn start(config: TrainConfig, dataset: &Dataset, folder: &Path) -> Result<Self> {
        let beginning = Beginning::new(&config, dataset)?;
        let run = Run::create(folder, &config)?;
        Self::assemble(config, run, beginning)
    }

    /// The run again, as its newest checkpoint has it, with `config` from now on. A run that died before its first
    /// checkpoint begins again.
    ///
    /// # Errors
    /// A damaged checkpoint, a corpus that is not the one that it learned from, or another process that trains it.
    pub fn resume(mut run: Run, config: TrainConfig, dataset: &Dataset) -> Result<Self> {
        config.validate()?;
        run.lock()?;
        run.clean()?;
        if run.steps()?.is_empty() {
            let beginning = Beginning::new(&config, dataset)?;
            return Self::assemble(config, run, beginning);
        }
        let folder = run.newest_checkpoint()?;
        checkpoint::verify(&folder)?;
        let mut checkpoint = Checkpoint::load(&folder)?;
        let (progress, Moments { m, v }) = checkpoint.load_progress()?;
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
        ensure!(
            (config.layers, config.heads, config.embd) == (model.layers, model.heads, model.embd)
                && config.context <= model.context
                && config.seed == progress.seed,
            "{} is not the configuration that {} was trained with: layers, heads, embd, context or seed differ; put the old one back",
            run.config_path().display(),
            folder.display()
        );
        run.write_config(&config)?;
        run.point_links(&progress)?;
        let sample = checkpoint.load_sample();
        let beginning = Beginning {
            tokens: tokenize(&config, &checkpoint.tokenizer, dataset)?,
            model: checkpoint.model,
            tokenizer: checkpoint.tokenizer,
            state: TrainState {
                step: progress.step,
                parameters: checkpoint.parameters,
                m,
                v,
            },
            progress,
        };
        let mut session = Self::assemble(config, run, beginning)?;
        session.sample = sample;
        Ok(session)
    }

    fn assemble(config: TrainConfig, run: Run, beginning: Beginning) -> Result<Self> {
        let Beginning {
            model,
            tokenizer,
            tokens: (train_tokens, val_tokens),
            state,
            progress,
        } = beginning;
        let names = state.parameters.names();
        Ok(Self {
            stepper: Stepper::new(&config, &model, names)?,
            evaluator: Evaluator::new(&model, names),
            metrics: Metrics::open(&run, state.step)?,
            config,
            model,
            tokenizer,
            train_tokens,
            val_tokens,
            run,
            state,
            progress,
            sample: String::new(),
        })
    }

    /// How long a step takes: one of at most two micro-batches is taken twice, the first time to compile, and
    /// forgotten.
    pub(super) fn measure_step(&mut self) -> Result<Duration> {
        let measured = self.config.grad_accum.min(2);
        let mut time = Duration::ZERO;
        for _ in 0..2 {
            let mut trial = self.state.clone();
            let mut batches = self.stepper.micro_batches(&self.train_tokens, self.state.step);
            batches.truncate(measured);
            let started = Instant::now();
            self.stepper.step(&mut trial, batches)?;
            time = started.elapsed();
        }
        Ok(time * self.config.grad_accum as u32 / measured as u32)
    }

    /// Losses over the same `eval_batches` batches of either split each time.
    pub(super) fn estimate_losses(&mut self) -> Result<Losses> {
        let (count, rows, context) = (self.config.eval_batches, self.config.batch_size, self.config.context);
        let [train, val] = [&self.train_tokens, &self.val_tokens].map(|tokens| {
            let batches = batches::spread(tokens, count, rows, context);
            self.evaluator.evaluate(&self.state.parameters, batches, |_| ())
        });
        Ok(Losses {
            train: train?.loss(),
            val: val?.loss(),
        })
    }

    /// What the model says now.
    pub(super) fn write_sample(&self) -> Result<String> {
        let generator = Generator::new(&self.model, &self.state.parameters)?;
        let sampling = Sampling {
            temperature: 0.8,
            ..Sampling::PLAIN
        };
        let mut ids = Vec::with_capacity(SAMPLE_TOKENS);
        let prompt = self.tokenizer.default_prompt();
        generator.generate(&prompt, 0..1, &sampling, self.config.seed, |_, choice| {
            ids.push(choice.id);
            Ok(ids.len() < SAMPLE_TOKENS)
        })?;
        self.tokenizer.decode(&ids)
    }

    /// Saves a checkpoint of this step, unless there is one.
    pub(super) fn save(&mut self) -> Result<()> {
        let step = self.state.step;
        let folder = self.run.step_folder(step);
        if folder.exists() {
            return Ok(());
        }
        let evaluation = self.metrics.evaluation_at(step);
        if evaluation.is_none() {
            self.sample = self.write_sample()?;
        }
        self.progress.advance(step, evaluation);
        let checkpoint = Checkpoint {
            folder,
            model: self.model.clone(),
            parameters: self.state.parameters.clone(),
            tokenizer: self.tokenizer.clone(),
        };
        let moments = Moments {
            m: self.state.m.clone(),
            v: self.state.v.clone(),
        };
        let last = self.last_checkpoint();
        self.metrics
            .sync()
            .and_then(|()| self.run.save(&checkpoint, &moments, &self.progress, &self.sample))
            .with_context(|| {
                format!(
                    "step {step} could not be saved (last checkpoint: {last}); make space, then go on with --resume {}",
                    self.run.folder.display()
                )
            })
    }

    /// The newest checkpoint's folder, in words.
    pub(super) fn last_checkpoint(&self) -> String {
        self.run
            .newest_checkpoint()
            .map_or("none yet".into(), |folder| folder.display().to_string())
    }
}

impl Beginning {
    /// From random weights, or from those of the configuration's `init_from`.
    fn new(config: &TrainConfig, dataset: &Dataset) -> Result<Self> {
        config.validate()?;
        let (model, tokenizer, parameters) = match &config.init_from {
            None => {
                let tokenizer = dataset.tokenizer(&config.tokenizer)?;
                let model = config.model(tokenizer.vocab_size());
                (model, tokenizer, None)
            }
            Some(path) => {
                let mut checkpoint = Checkpoint::load(Path::new(path))?;
                checkpoint.model.dropout = config.dropout;
                (checkpoint.model, checkpoint.tokenizer, Some(checkpoint.parameters))
            }
        };
        model.validate()?;
        ensure!(
            config.context <= model.context,
            "context {} is over the {} of the model that the run starts from; choose --context {1} or less",
            config.context,
            model.context
        );
        let tokens = tokenize(config, &tokenizer, dataset)?;
        let parameters = match parameters {
            Some(parameters) => parameters,
            None => init::initialize(&model, config.seed)?,
        };
        Ok(Self {
            model,
            tokenizer,
            tokens,
            state: TrainState::new(parameters)?,
            progress: Progress::new(config.seed, dataset.record()?),
        })
    }
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

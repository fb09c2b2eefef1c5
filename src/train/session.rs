//! A training run in memory: made new, or read back from its newest checkpoint.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::beginning::Beginning;
use super::metrics::Metrics;
use super::step::{Stepper, TrainState};
use crate::checkpoint::run::Run;
use crate::checkpoint::{Checkpoint, Losses, Moments, Progress};
use crate::config::{ModelConfig, TrainConfig};
use crate::data::batches;
use crate::data::dataset::Dataset;
use crate::data::tokens::Tokens;
use crate::evaluate::{Evaluation, Evaluator};
use crate::generate::Generator;
use crate::generate::sampler::Sampling;
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
    /// Where the weights are that adapters are trained on top of, if it is they that learn.
    pub(super) base: Option<PathBuf>,
    /// Text of the last evaluation.
    pub(super) sample: String,
}

/// How long a step of such a run would take, without making the run.
///
/// # Errors
/// A configuration or a corpus that cannot be trained with.
pub fn time_of_step(config: &TrainConfig, dataset: &Dataset) -> Result<Duration> {
    let Beginning {
        model,
        state,
        train_tokens,
        ..
    } = Beginning::new(config, dataset)?;
    Stepper::new(config, &model, state.parameters.names(), state.frozen.names())?.measure(&state, &train_tokens)
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
        let beginning = if run.steps()?.is_empty() {
            Beginning::new(&config, dataset)?
        } else {
            Beginning::resume(&run, &config, dataset)?
        };
        run.write_config(&config)?;
        if beginning.progress.step > 0 {
            run.point_links(&beginning.progress)?;
        }
        Self::assemble(config, run, beginning)
    }

    fn assemble(config: TrainConfig, run: Run, beginning: Beginning) -> Result<Self> {
        let Beginning { model, state, .. } = &beginning;
        Ok(Self {
            stepper: Stepper::new(&config, model, state.parameters.names(), state.frozen.names())?,
            evaluator: Evaluator::new(model, state.model_parameters().names()),
            metrics: Metrics::open(&run, state.step)?,
            config,
            run,
            model: beginning.model,
            tokenizer: beginning.tokenizer,
            train_tokens: beginning.train_tokens,
            val_tokens: beginning.val_tokens,
            state: beginning.state,
            progress: beginning.progress,
            base: beginning.base,
            sample: beginning.sample,
        })
    }

    /// How long a step takes.
    pub(super) fn measure_step(&mut self) -> Result<Duration> {
        self.stepper.measure(&self.state, &self.train_tokens)
    }

    /// Losses over the same `eval_batches` batches of either split each time.
    pub(super) fn estimate_losses(&mut self) -> Result<Losses> {
        let (count, rows, context) = (self.config.eval_batches, self.config.batch_size, self.config.context);
        let parameters = self.state.model_parameters();
        let mut estimate = |tokens| {
            let mut total = Evaluation::default();
            for batch in batches::spread(tokens, count, rows, context) {
                total.add(&self.evaluator.losses(&parameters, &batch)?);
            }
            anyhow::Ok(total.loss())
        };
        Ok(Losses {
            train: estimate(&self.train_tokens)?,
            val: estimate(&self.val_tokens)?,
        })
    }

    /// What the model says now.
    pub(super) fn write_sample(&self) -> Result<String> {
        let generator = Generator::new(&self.model, &self.state.model_parameters())?;
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
    ///
    /// # Errors
    /// The disk is full or cannot be written.
    pub fn save(&mut self) -> Result<()> {
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
            parameters: self.state.model_parameters(),
            tokenizer: self.tokenizer.clone(),
            base: self.base.clone(),
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

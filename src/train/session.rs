//! A training run in memory: a new one, or one that is resumed from its newest checkpoint.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::HumanBytes;

use super::metrics::{ChangesLine, Line, Metrics};
use super::setup::Setup;
use super::step::{Stepper, TrainState};
use crate::checkpoint::run::Run;
use crate::checkpoint::{Checkpoint, Losses, Moments, Progress, read_progress};
use crate::compute::arithmetic;
use crate::config::{ModelConfig, TrainConfig};
use crate::data::batches;
use crate::data::dataset::Dataset;
use crate::data::tokens::Tokens;
use crate::disk::durable;
use crate::evaluate::{Evaluation, Evaluator};
use crate::generate::Generator;
use crate::generate::sampler::Sampling;
use crate::terminal::console::{quoted, say, warn};
use crate::tokenizer::Tokenizer;

/// Tokens of the sample that an evaluation writes.
pub(super) const SAMPLE_TOKENS: usize = 300;

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
    /// The folder of the weights that adapters are trained for, if there are any.
    pub(super) base: Option<PathBuf>,
    /// The sample of the last evaluation.
    pub(super) sample: String,
}

/// The time of a step of such a run, measured without making the run.
///
/// # Errors
/// A configuration or a corpus that cannot be trained with.
pub fn time_of_step(config: &TrainConfig, dataset: &Dataset) -> Result<Duration> {
    let Setup {
        model,
        mut state,
        train_tokens,
        ..
    } = Setup::new(config, dataset)?;
    Stepper::new(config, &model, &state.parameters, &state.frozen)?.measure(&mut state, &train_tokens)
}

impl Session {
    /// A new run in `folder`.
    ///
    /// # Errors
    /// A configuration, corpus or checkpoint that cannot be trained with; a folder that holds a run already. Nothing
    /// is left behind.
    pub fn start(config: TrainConfig, dataset: &Dataset, folder: &Path) -> Result<Self> {
        let setup = Setup::new(&config, dataset)?;
        let run = Run::create(folder, &config)?;
        Self::assemble(config, run, setup)
    }

    /// The run as its newest checkpoint has it, with `config` from now on. A run without a checkpoint starts over, and says
    /// so.
    ///
    /// # Errors
    /// A setting that cannot change on resume, a damaged checkpoint, a corpus that is not the one that it learned from, or
    /// another process that trains it.
    pub fn resume(mut run: Run, config: TrainConfig, dataset: &Dataset) -> Result<Self> {
        ensure_no_batch_ramp(&run, &config)?;
        config.validate()?;
        run.lock()?;
        run.clean()?;
        let before = trained_with(&run)?;
        ensure_no_batch_ramp(&run, &before)?;
        let config = config.with_schedule_of(&before);
        let mut changes = config.changes_since(&before)?;
        let setup = if run.steps()?.is_empty() {
            say_begins_again(&run);
            Setup::new(&config, dataset)?
        } else {
            Setup::resume(&run, &config, dataset)?
        };
        if config != run.config()? {
            run.write_config(&config)?;
        }
        if setup.progress.step > 0 {
            run.point_links(&setup.progress)?;
        }
        changes.extend(arithmetic::changes(
            &setup.progress.arithmetic,
            &arithmetic::here(config.device),
        ));
        let mut session = Self::assemble(config, run, setup)?;
        session.record(changes)?;
        Ok(session)
    }

    /// Says which settings are changed from here on, and logs it.
    fn record(&mut self, changes: Vec<String>) -> Result<()> {
        for change in &changes {
            say(format_args!("changed  {change}"));
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.metrics.log(Line::Changes(ChangesLine {
            step: self.state.step,
            changes,
        }))
    }

    fn assemble(config: TrainConfig, run: Run, setup: Setup) -> Result<Self> {
        let Setup { model, state, .. } = &setup;
        let device = config.device;
        Ok(Self {
            stepper: Stepper::new(&config, model, &state.parameters, &state.frozen)?,
            evaluator: Evaluator::new(model, state.model_parameters().names(), config.threads)?,
            metrics: Metrics::open(&run, state.step)?,
            config,
            run,
            model: setup.model,
            tokenizer: setup.tokenizer,
            train_tokens: setup.train_tokens,
            val_tokens: setup.val_tokens,
            state: setup.state,
            progress: Progress {
                arithmetic: arithmetic::here(device),
                ..setup.progress
            },
            base: setup.base,
            sample: setup.sample,
        })
    }

    /// How long a step takes.
    pub(super) fn measure_step(&mut self) -> Result<Duration> {
        self.stepper.measure(&mut self.state, &self.train_tokens)
    }

    /// Losses over `count` batches of each split, the same ones every time, with as many rows at once as keep MLX busy.
    pub(super) fn estimate_losses(&mut self, count: usize) -> Result<Losses> {
        let context = self.config.context;
        let (all, rows) = (count * self.config.batch_size, self.evaluator.rows(context));
        let parameters = self.state.model_parameters();
        let mut estimate = |tokens| {
            let mut total = Evaluation::default();
            let batches = batches::spread(tokens, all, rows, context);
            for losses in self.evaluator.losses(&parameters, batches)? {
                total.add(&losses);
            }
            anyhow::Ok(total.loss())
        };
        Ok(Losses {
            train: estimate(&self.train_tokens)?,
            val: estimate(&self.val_tokens)?,
        })
    }

    /// A sample of the model as it is now, of so many tokens.
    pub(super) fn write_sample(&self, tokens: usize) -> Result<String> {
        let generator = Generator::new(&self.model, &self.state.model_parameters())?;
        let sampling = Sampling {
            temperature: 0.8,
            ..Sampling::PLAIN
        };
        let mut ids = Vec::with_capacity(tokens);
        let prompt = self.tokenizer.default_prompt();
        generator.generate(&prompt, 0..1, &sampling, self.config.seed, |_, choice| {
            ids.push(choice.id);
            Ok(ids.len() < tokens)
        })?;
        self.tokenizer.decode(&ids)
    }

    /// Saves a checkpoint of this step, unless there is one, then removes those that are not to be kept.
    ///
    /// # Errors
    /// The disk is full or cannot be written.
    pub fn save(&mut self) -> Result<()> {
        let step = self.state.step;
        if self.run.step_folder(step).exists() {
            return Ok(());
        }
        self.write_checkpoint().with_context(|| {
            format!(
                "step {step} could not be saved (last checkpoint: {}); make space, then go on with --resume {}",
                self.last_checkpoint(),
                quoted(&self.run.folder)
            )
        })?;
        let (last, every) = (self.config.keep_last, self.config.keep_every);
        if let Err(error) = self.run.keep(last, every, self.progress.best.map(|best| best.step)) {
            warn(format_args!("{error:#}; the run goes on"));
        }
        Ok(())
    }

    fn write_checkpoint(&mut self) -> Result<()> {
        let (needed, free) = (self.checkpoint_bytes(), durable::free_space(&self.run.folder)?);
        ensure!(
            needed <= free,
            "it takes {}, the disk has {} left",
            HumanBytes(needed),
            HumanBytes(free)
        );
        let step = self.state.step;
        let evaluation = self.metrics.evaluation_at(step);
        if evaluation.is_none() {
            self.sample = self.write_sample(SAMPLE_TOKENS)?;
        }
        let progress = Progress {
            config: Some(self.config.clone()),
            skipped: self.state.skipped,
            loss_scale: self.state.loss_scale,
            ..self.progress.advanced(step, evaluation)
        };
        let checkpoint = Checkpoint {
            folder: self.run.step_folder(step),
            model: self.model.clone(),
            parameters: self.state.model_parameters(),
            tokenizer: self.tokenizer.clone(),
            base: self.base.clone(),
        };
        let moments = Moments {
            m: self.state.m.clone(),
            v: self.state.v.clone(),
        };
        self.metrics.sync()?;
        checkpoint.save(&moments, &progress, &self.sample)?;
        self.progress = progress;
        self.run.point_links(&self.progress)
    }

    /// Bytes of a checkpoint on disk, without its small files: float32 weights, only the adapters' where there are any, and
    /// the moments of the parameters that learn.
    pub(super) fn checkpoint_bytes(&self) -> u64 {
        let state = &self.state;
        let learning = state.parameters.count();
        let saved = match self.base {
            Some(_) => learning,
            None => learning + state.frozen.count(),
        };
        4 * (saved + state.m.count() + state.v.count()) as u64
    }

    /// What only this process has, in words.
    pub(super) fn not_saved_yet(&self) -> String {
        match self.state.step - self.progress.step {
            0 => "nothing".into(),
            1 => "the last step".into(),
            steps => format!("the last {steps} steps"),
        }
    }

    /// The newest checkpoint's folder, in words.
    pub(super) fn last_checkpoint(&self) -> String {
        self.run
            .newest_checkpoint()
            .map_or("none yet".into(), |folder| folder.display().to_string())
    }
}

/// The configuration that the run was trained with up to its newest checkpoint.
fn trained_with(run: &Run) -> Result<TrainConfig> {
    let recorded = match run.newest_checkpoint() {
        Ok(folder) => read_progress(&folder)?.config,
        Err(_) => None,
    };
    match recorded {
        Some(config) => Ok(config),
        None => run.config(),
    }
}

fn ensure_no_batch_ramp(run: &Run, config: &TrainConfig) -> Result<()> {
    config.ensure_no_batch_ramp(
        &format!("run {}", run.folder.display()),
        &format!(
            "start a new run from its weights with --init-from {}",
            quoted(&run.folder)
        ),
    )
}

/// Of a run that has no checkpoint, or none any more.
fn say_begins_again(run: &Run) {
    let folder = run.folder.display();
    match run.latest() {
        Some(latest) => warn(format_args!(
            "the checkpoints of run {folder} are gone ({} was the newest): it begins again at step 0",
            latest.display()
        )),
        None => say(format_args!(
            "run {folder} has no checkpoint yet: it begins again at step 0"
        )),
    }
}

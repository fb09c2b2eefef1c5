//! A training run in memory: made new, or read back from its newest checkpoint.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::metrics::{ChangesLine, Line, Metrics};
use super::setup::Setup;
use super::step::{Stepper, TrainState};
use crate::checkpoint::run::Run;
use crate::checkpoint::{Best, Checkpoint, Losses, Moments, Progress, base, read_progress};
use crate::compute::arithmetic;
use crate::config::{ModelConfig, TrainConfig};
use crate::data::batches;
use crate::data::dataset::Dataset;
use crate::data::tokens::Tokens;
use crate::disk::bytes::Bytes;
use crate::disk::durable;
use crate::disk::remedy::remedy;
use crate::evaluate::{Evaluation, Evaluator};
use crate::generate::{CompletionOptions, Generator, TokenStream, boundaries};
use crate::terminal::shell::quoted;
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
    /// Where the weights are that adapters are trained on top of, if it is they that learn.
    pub(super) base: Option<PathBuf>,
    /// Text of the last evaluation.
    pub(super) sample: String,
    /// Settings that are others than the run had so far, in words.
    changes: Vec<String>,
}

/// How long a step of such a run would take, without making the run.
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
        let mut setup = Setup::new(&config, dataset)?;
        if let Some(note) = dataset.note_on_special_tokens(&setup.tokenizer, config.special) {
            log::info!("corpus {}: {note}", config.corpus);
        }
        let run = Run::create(folder, &config)?;
        keep_base(&run, &mut setup).inspect_err(|_| run.discard())?;
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
        let mut setup = if run.steps()?.is_empty() {
            note_that_it_begins_again(&run);
            Setup::new(&from_kept_base(&run, &config), dataset)?
        } else {
            Setup::resume(&run, &config, dataset)?
        };
        keep_base(&run, &mut setup)?;
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

    /// Keeps which settings are changed from here on, and logs it.
    fn record(&mut self, changes: Vec<String>) -> Result<()> {
        self.changes.clone_from(&changes);
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
            changes: Vec::new(),
        })
    }

    /// How long a step takes.
    pub(super) fn measure_step(&mut self) -> Result<Duration> {
        self.stepper.measure(&mut self.state, &self.train_tokens)
    }

    /// Losses over the same `count` batches of either split each time, as many rows at once as keep MLX busy.
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

    /// What the model says now, in so many tokens.
    pub(super) fn write_sample(&self, tokens: usize) -> Result<String> {
        let generator = Generator::new(&self.model, &self.state.model_parameters())?.for_tokenizer(&self.tokenizer);
        let options = CompletionOptions {
            max_new_tokens: tokens,
            ignore_end_of_text: true,
            seed: self.config.seed,
            ..CompletionOptions::default()
        };
        let prompt = boundaries::default_prompt(&self.model, &self.tokenizer);
        Ok(TokenStream::new(&generator, &self.tokenizer, &prompt, &options)?
            .complete()?
            .text)
    }

    /// Saves a checkpoint of this step, unless there is one, then removes those that are not to be kept.
    ///
    /// # Errors
    /// The disk is full or cannot be written.
    pub fn save(&mut self) -> Result<()> {
        let step = self.state.step;
        self.find_run()
            .and_then(|()| self.write_checkpoint())
            .map_err(|error| {
                let helps = remedy(&error).unwrap_or("put that right");
                error.context(format!(
                    "step {step} could not be saved (last checkpoint: {}); {helps}, then go on with --resume {}",
                    self.last_checkpoint(),
                    quoted(&self.run.folder)
                ))
            })?;
        let (last, every) = (self.config.keep_last, self.config.keep_every);
        if let Err(error) = self.run.keep(last, every, self.progress.best.map(|best| best.step)) {
            log::warn!("{error:#}; the run goes on");
        }
        Ok(())
    }

    /// Follows the run's folder where it was renamed: what has its old name now is another one's.
    pub(super) fn find_run(&mut self) -> Result<()> {
        if let Some(old) = self.run.follow()? {
            log::warn!(
                "run {} is now {}, where it is saved from here on",
                old.display(),
                self.run.folder.display()
            );
        }
        Ok(())
    }

    fn write_checkpoint(&mut self) -> Result<()> {
        if self.run.steps()?.contains(&self.state.step) {
            return Ok(());
        }
        let (needed, free) = (self.checkpoint_bytes(), durable::free_space(&self.run.folder)?);
        if needed > free {
            let lacks = format!("it takes {}, the disk has {} left", Bytes(needed), Bytes(free));
            return Err(io::Error::new(io::ErrorKind::StorageFull, lacks).into());
        }
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
            // Wherever the run is by now.
            base: self
                .base
                .as_ref()
                .map(|_| self.run.base_folder().canonicalize())
                .transpose()?,
        };
        let moments = Moments {
            m: self.state.m.clone(),
            v: self.state.v.clone(),
        };
        self.metrics.sync(&self.run)?;
        checkpoint.save(&moments, &progress, &self.sample)?;
        self.progress = progress;
        self.run.point_links(&self.progress)
    }

    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The shape of what is trained.
    pub fn model(&self) -> &ModelConfig {
        &self.model
    }

    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// Steps that changed nothing, as their numbers were not finite.
    pub fn steps_skipped(&self) -> u64 {
        self.state.skipped
    }

    /// Numbers that learn, and numbers in all.
    pub fn parameters(&self) -> (usize, usize) {
        let learning = self.state.parameters.count();
        (learning, learning + self.state.frozen.count())
    }

    /// Tokens to train on, and to validate on.
    pub fn tokens(&self) -> [usize; 2] {
        [self.train_tokens.len(), self.val_tokens.len()]
    }

    /// Threads that compute gradients.
    pub fn threads(&self) -> usize {
        self.stepper.threads()
    }

    /// What the model said at the last evaluation.
    pub fn sample(&self) -> &str {
        &self.sample
    }

    /// The checkpoint with the lowest validation loss so far.
    pub fn best(&self) -> Option<Best> {
        self.progress.best
    }

    /// Settings that are others than the run had so far, in words.
    pub fn changes(&self) -> &[String] {
        &self.changes
    }

    /// Checkpoints that the run leaves from here on, the best one not counted.
    pub fn checkpoints_left(&self) -> u64 {
        kept_checkpoints(&self.config, self.state.step)
    }

    /// What a checkpoint takes on disk, but for its small files: float32 weights, only the adapters' where there are
    /// any, and the moments of what learns.
    pub fn checkpoint_bytes(&self) -> u64 {
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

/// Has the run keep the model that its adapters are trained on top of.
fn keep_base(run: &Run, setup: &mut Setup) -> Result<()> {
    if let Some(found) = &setup.base {
        base::keep(found, &run.base_folder())?;
        setup.base = Some(run.base_folder());
    }
    Ok(())
}

/// The same start from the model that the run keeps, whatever became of that one's old place.
fn from_kept_base(run: &Run, config: &TrainConfig) -> TrainConfig {
    let base = run.base_folder();
    let kept = config.lora_rank > 0 && base.is_dir();
    TrainConfig {
        init_from: match kept {
            true => Some(base.to_string_lossy().into_owned()),
            false => config.init_from.clone(),
        },
        ..config.clone()
    }
}

/// What the run was trained with up to its newest checkpoint.
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
fn note_that_it_begins_again(run: &Run) {
    let folder = run.folder.display();
    match run.latest() {
        Some(latest) => log::warn!(
            "the checkpoints of run {folder} are gone ({} was the newest): it begins again at step 0",
            latest.display()
        ),
        None => log::info!("run {folder} has no checkpoint yet: it begins again at step 0"),
    }
}

/// How many checkpoints a run leaves from `step` on, the best one not counted.
fn kept_checkpoints(config: &TrainConfig, step: u64) -> u64 {
    let all = config.steps.div_ceil(config.save_every) - step / config.save_every;
    if config.keep_last == 0 {
        return all;
    }
    let every = [config.steps, step].map(|step| step.checked_div(config.keep_every).unwrap_or(0));
    all.min(config.keep_last as u64 + every[0] - every[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Device;
    use crate::config::Preset;

    #[test]
    fn a_run_that_goes_on_between_two_checkpoints_leaves_both() {
        let config = |keep_last, keep_every| TrainConfig {
            steps: 25,
            save_every: 10,
            keep_last,
            keep_every,
            ..Preset::Nano.train(Device::Cpu)
        };
        assert_eq!(kept_checkpoints(&config(0, 0), 0), 3); // after steps 10, 20 and 25
        assert_eq!(kept_checkpoints(&config(0, 0), 5), 3);
        assert_eq!(kept_checkpoints(&config(0, 0), 10), 2);
        assert_eq!(kept_checkpoints(&config(1, 20), 15), 2);
    }
}

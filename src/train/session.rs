//! A training run: started new, or resumed from its newest checkpoint.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::metrics::{ChangesRecord, Line, Metrics};
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

/// What takes less memory, but for recomputation.
pub(super) const LOWER: &str =
    "lower --batch-size (--grad-accum makes up for it) or --context, or choose a smaller --preset";

/// A training run and everything that its loop needs.
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
    /// The checkpoint of the base weights, if only adapters are trained.
    pub(super) base: Option<PathBuf>,
    /// Sample of the last evaluation.
    pub(super) sample: String,
    /// Options that changed on resume, one line each.
    changes: Vec<String>,
}

/// Estimates the time of a step of such a run, without creating the run.
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
    /// A configuration, corpus or checkpoint that cannot be trained with; a folder that already holds a run. Nothing
    /// is left behind.
    pub fn start(config: TrainConfig, dataset: &Dataset, folder: &Path) -> Result<Self> {
        let mut setup = Setup::new(&config, dataset)?;
        if let Some(note) = dataset.special_token_note(&setup.tokenizer, config.special) {
            log::info!("corpus {}: {note}", config.corpus);
        }
        let run = Run::create(folder, &config)?;
        keep_base(&run, &mut setup).inspect_err(|_| run.discard())?;
        Self::assemble(config, run, setup)
    }

    /// Resumes a run from its newest checkpoint, with `config` from now on. A run without a checkpoint restarts at step 0, with
    /// a note.
    ///
    /// # Errors
    /// An option that cannot change on resume, a damaged checkpoint, another corpus than it was trained on, or another
    /// process that trains it.
    pub fn resume(mut run: Run, config: TrainConfig, dataset: &Dataset) -> Result<Self> {
        ensure_no_batch_ramp(&run, &config)?;
        config.validate()?;
        run.lock()?;
        run.clean()?;
        let before = last_trained_config(&run)?;
        ensure_no_batch_ramp(&run, &before)?;
        let config = config.with_schedule_of(&before);
        let mut changes = config.changes_since(&before)?;
        let mut setup = if run.steps()?.is_empty() {
            report_restart(&run);
            Setup::new(&with_run_base(&run, &config), dataset)?
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

    /// Stores and logs the options that changed.
    fn record(&mut self, changes: Vec<String>) -> Result<()> {
        self.changes.clone_from(&changes);
        if changes.is_empty() {
            return Ok(());
        }
        self.metrics.log(Line::Changes(ChangesRecord {
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

    /// Estimates the time of a step.
    pub(super) fn measure_step(&mut self) -> Result<Duration> {
        self.stepper.measure(&mut self.state, &self.train_tokens)
    }

    /// The losses over `count` batches of each split, always the same, with as many rows at once as keep MLX busy.
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

    /// A sample of the current model, of that many tokens.
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

    /// Saves a checkpoint of this step, unless there is one, and deletes those that are not kept.
    ///
    /// # Errors
    /// The disk is full or cannot be written.
    pub fn save(&mut self) -> Result<()> {
        let step = self.state.step;
        self.refresh_run_path()
            .and_then(|()| self.write_checkpoint())
            .map_err(|error| {
                let hint = remedy(&error).unwrap_or("fix that");
                error.context(format!(
                    "step {step} could not be saved (last checkpoint: {}); {hint}, then resume with --resume {}",
                    self.last_checkpoint(),
                    quoted(&self.run.folder)
                ))
            })?;
        let (last, every) = (self.config.keep_last, self.config.keep_every);
        if let Err(error) = self.run.keep(last, every, self.progress.best.map(|best| best.step)) {
            log::warn!("{error:#}; training continues");
        }
        Ok(())
    }

    /// Finds the run's folder again if it was renamed: its old name may belong to another run now.
    pub(super) fn refresh_run_path(&mut self) -> Result<()> {
        if let Some(old) = self.run.follow()? {
            log::warn!(
                "run {} was renamed to {}; checkpoints are saved there from now on",
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
            let lacks = format!("it needs {}, and the disk has only {} left", Bytes(needed), Bytes(free));
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
            // The run may have been renamed.
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

    /// Its configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The configuration of the model that is trained.
    pub fn model(&self) -> &ModelConfig {
        &self.model
    }

    /// The run's folder.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// Steps that were skipped because their loss or gradients were not finite.
    pub fn steps_skipped(&self) -> u64 {
        self.state.skipped
    }

    /// The numbers of trainable parameters, and of all parameters.
    pub fn parameters(&self) -> (usize, usize) {
        let trainable = self.state.parameters.count();
        (trainable, trainable + self.state.frozen.count())
    }

    /// The numbers of training and of validation tokens.
    pub fn tokens(&self) -> [usize; 2] {
        [self.train_tokens.len(), self.val_tokens.len()]
    }

    /// Threads that compute gradients.
    pub fn threads(&self) -> usize {
        self.stepper.threads()
    }

    /// The sample of the last evaluation.
    pub fn sample(&self) -> &str {
        &self.sample
    }

    /// The checkpoint with the lowest validation loss so far.
    pub fn best(&self) -> Option<Best> {
        self.progress.best
    }

    /// Options that changed on resume, one line each.
    pub fn changes(&self) -> &[String] {
        &self.changes
    }

    /// The number of checkpoints that the run will leave from this step on, without the best one.
    pub fn checkpoints_left(&self) -> u64 {
        kept_checkpoints(&self.config, self.state.step)
    }

    /// Size of a checkpoint on disk, without its small files: float32 weights (only the adapters', if there are any) and the
    /// moments of the trainable parameters.
    pub fn checkpoint_bytes(&self) -> u64 {
        let state = &self.state;
        let trainable = state.parameters.count();
        let saved = match self.base {
            Some(_) => trainable,
            None => trainable + state.frozen.count(),
        };
        4 * (saved + state.m.count() + state.v.count()) as u64
    }

    /// Describes the steps since the last checkpoint.
    pub(super) fn unsaved_steps(&self) -> String {
        match self.state.step - self.progress.step {
            0 => "nothing".into(),
            1 => "the last step".into(),
            steps => format!("the last {steps} steps"),
        }
    }

    /// How the run would take less memory, in words. Of a run that has begun, the batch is what it is.
    pub fn less_memory(&self) -> String {
        let (begun, kept) = (self.progress.step > 0, !self.config.recompute);
        match (begun, kept) {
            (true, true) => "go on with --resume and --recompute".into(),
            (true, false) => {
                "close other programs that use the GPU, or start a new run with a lower --batch-size".into()
            }
            (false, true) => format!("give --recompute, or {LOWER}"),
            (false, false) => LOWER.into(),
        }
    }

    /// The newest checkpoint's folder, for messages.
    pub(super) fn last_checkpoint(&self) -> String {
        self.run
            .newest_checkpoint()
            .map_or("none yet".into(), |folder| folder.display().to_string())
    }
}

/// Copies the base model of the adapters into the run.
fn keep_base(run: &Run, setup: &mut Setup) -> Result<()> {
    if let Some(found) = &setup.base {
        base::keep(found, &run.base_folder())?;
        setup.base = Some(run.base_folder());
    }
    Ok(())
}

/// `config`, starting from the base model that the run keeps, as the original may be gone.
fn with_run_base(run: &Run, config: &TrainConfig) -> TrainConfig {
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

/// The configuration that the run was trained with up to its newest checkpoint.
fn last_trained_config(run: &Run) -> Result<TrainConfig> {
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

/// Logs that a run without checkpoints restarts.
fn report_restart(run: &Run) {
    let folder = run.folder.display();
    match run.latest() {
        Some(latest) => log::warn!(
            "the checkpoints of run {folder} are gone ({} was the newest): it restarts at step 0",
            latest.display()
        ),
        None => log::info!("run {folder} has no checkpoint yet: it restarts at step 0"),
    }
}

/// The number of checkpoints that a run leaves from `step` on, without the best one.
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

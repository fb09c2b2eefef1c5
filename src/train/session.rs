//! A training run: started new, or resumed from its newest checkpoint.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::chat;
use super::handover;
use super::metrics::{ChangesRecord, Metrics, Record};
use super::objective::Learner;
use super::pace::Deadline;
use super::resumed::{ensure_no_batch_ramp, last_trained_config, report_restart, with_run_base};
use super::saving::SAMPLE_TOKENS;
use super::setup::Setup;
use super::step::{Stepper, TrainState};
use super::together::{Together, rows};
use crate::checkpoint::run::Run;
use crate::checkpoint::{Best, CheckpointState, Losses, Pace, base};
use crate::compute::numerics::{self, NumericsFingerprint};
use crate::compute::ranks::Ranks;
use crate::config::{Architecture, ModelConfig, TrainConfig};
use crate::data::dataset::Dataset;
use crate::data::source::Source;
use crate::data::tasks::TaskData;
use crate::evaluate::Evaluator;
use crate::evaluate::task::Answers;
use crate::generate::{CompletionOptions, Generator, LanguageModel};
use crate::terminal::shell::quoted;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::ChatTemplate;

/// How to use less memory, other than `--recompute`.
const LOWER: &str = "lower --batch-size (--grad-accum makes up for it) or --context, or choose a smaller --preset";

/// Held-out problems of a task that an evaluation solves.
const SCORED_PROBLEMS: usize = 256;
/// Those of them that are in the sample.
const SHOWN_PROBLEMS: usize = 8;

/// A training run and everything that its loop needs.
pub struct Session {
    pub(super) config: TrainConfig,
    pub(super) model: ModelConfig,
    pub(super) tokenizer: Tokenizer,
    pub(super) chat_template: Option<ChatTemplate>,
    pub(super) train: Source,
    pub(super) val: Source,
    /// The task that it learns, if it is one.
    pub(super) task: Option<TaskData>,
    pub(super) run: Run,
    pub(super) state: TrainState,
    pub(super) stepper: Stepper,
    /// What the steps learn from.
    pub(super) learner: Learner,
    pub(super) evaluator: Evaluator,
    /// Training state of the last checkpoint.
    pub(super) saved: CheckpointState,
    pub(super) metrics: Metrics,
    /// The checkpoint of the base weights, if only adapters are trained.
    pub(super) base: Option<PathBuf>,
    /// Sample of the last evaluation.
    pub(super) sample: String,
    /// Of the last evaluation, for a task or preference pairs.
    pub(super) accuracy: Option<f64>,
    /// The other machines that it is trained on with this one.
    pub(super) together: Option<Together>,
    /// When it ends, if that is given.
    pub(super) deadline: Option<Deadline>,
    /// Options that changed on resume, one line each.
    changes: Vec<String>,
}

/// Estimates the time of a step of such a run, without creating the run.
///
/// # Errors
/// A configuration or a corpus that cannot be trained with.
pub fn time_of_step(config: &TrainConfig, dataset: &Dataset) -> Result<Duration> {
    let mut setup = Setup::new(config, dataset)?;
    let mut learner = Learner::new(config, &setup)?;
    let (state, source) = (&mut setup.state, &setup.train);
    let mut stepper = Stepper::new(config, &setup.model, &state.parameters, &state.frozen)?;
    stepper.time_step_of(state, |stepper, state, count| {
        Ok(learner.step_data(stepper, state, source, count)?.0)
    })
}

impl Session {
    /// A new run in `folder`.
    ///
    /// # Errors
    /// A configuration, corpus or checkpoint that cannot be trained with; a folder that already holds a run. Nothing
    /// is left behind.
    pub fn start(config: TrainConfig, dataset: &Dataset, folder: &Path) -> Result<Self> {
        Self::start_among(None, config, dataset, folder)
    }

    /// The same on several machines, of whose ranks this is the first; the others [`follow`](super::follow).
    ///
    /// # Errors
    /// As [`start`](Self::start); a rank that reads another text.
    pub fn start_among(
        ranks: Option<Rc<Ranks>>,
        config: TrainConfig,
        dataset: &Dataset,
        folder: &Path,
    ) -> Result<Self> {
        let mut setup = Setup::new(&config, dataset)?;
        if let Some(note) = dataset.special_token_note(&setup.tokenizer, config.special) {
            log::info!("corpus {}: {note}", config.corpus);
        }
        let run = Run::create(folder, &config)?;
        keep_base(&run, &mut setup)
            .and_then(|()| setup.keep_reference(&run))
            .inspect_err(|_| run.discard())?;
        Self::assemble(ranks, config, run, setup)
    }

    /// Resumes a run from its newest checkpoint, with `config` from now on. A run without a checkpoint restarts at step 0, with
    /// a note.
    ///
    /// # Errors
    /// An option that cannot change on resume, a damaged checkpoint, another corpus than it was trained on, or another
    /// process that trains it.
    pub fn resume(run: Run, config: TrainConfig, dataset: &Dataset) -> Result<Self> {
        Self::resume_among(None, run, config, dataset)
    }

    /// The same on several machines, of whose ranks this is the first; the others [`follow`](super::follow).
    ///
    /// # Errors
    /// As [`resume`](Self::resume); a rank that reads another text.
    pub fn resume_among(
        ranks: Option<Rc<Ranks>>,
        mut run: Run,
        config: TrainConfig,
        dataset: &Dataset,
    ) -> Result<Self> {
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
        setup.keep_reference(&run)?;
        if config != run.config()? {
            run.write_config(&config)?;
        }
        if setup.saved.step > 0 {
            run.update_links(&setup.saved)?;
        }
        changes.extend(numerics::changes(
            &setup.saved.numerics,
            &numerics_of(&config, ranks.as_deref()),
        ));
        let mut session = Self::assemble(ranks, config, run, setup)?;
        session.record(changes)?;
        Ok(session)
    }

    /// Stores and logs the options that changed.
    pub(super) fn record(&mut self, changes: Vec<String>) -> Result<()> {
        self.changes.clone_from(&changes);
        if changes.is_empty() {
            return Ok(());
        }
        self.metrics.log(Record::Changes(ChangesRecord {
            step: self.state.step,
            changes,
        }))
    }

    /// # Errors
    /// A thread cannot be started, or the metrics cannot be opened. A new run is gone then.
    fn assemble(ranks: Option<Rc<Ranks>>, config: TrainConfig, run: Run, mut setup: Setup) -> Result<Self> {
        let parts = || {
            rows(&config, ranks.as_deref())?; // before the others are told of it
            ensure!(
                config.minutes.is_none() || ranks.is_none(),
                "a run that ends after {} minutes is trained on one machine",
                config.minutes.unwrap_or_default()
            );
            if let Some(ranks) = &ranks {
                handover::give(ranks, &config, &setup)?;
            }
            let of = |ranks| Together::new(ranks, &config, &setup.state, setup.apart.clone());
            let together = ranks.as_ref().map(of).transpose()?;
            anyhow::Ok((
                setup.stepper(&config, ranks.as_ref())?,
                Learner::new(&config, &setup)?,
                together,
                setup.evaluator(&config)?,
                Metrics::open(&run, setup.state.step)?,
            ))
        };
        let (stepper, learner, together, evaluator, metrics) = parts().inspect_err(|_| run.discard())?;
        let numerics = numerics_of(&config, ranks.as_deref());
        if let Some(ranks) = &ranks {
            ranks.set_remedy(format!(
                "; go on from the last checkpoint with --resume {}",
                quoted(&run.folder)
            ));
        }
        let deadline = config.minutes.map(|minutes| {
            let pace = setup.state.pace.get_or_insert(Pace::new(config.steps));
            Deadline::new(minutes, pace)
        });
        Ok(Self {
            stepper,
            learner,
            evaluator,
            deadline,
            metrics,
            config,
            together,
            run,
            model: setup.model,
            tokenizer: setup.tokenizer,
            chat_template: setup.chat_template,
            train: setup.train,
            val: setup.val,
            task: setup.task,
            accuracy: None,
            state: setup.state,
            saved: CheckpointState {
                numerics,
                ..setup.saved
            },
            base: setup.base,
            sample: setup.sample,
            changes: Vec::new(),
        })
    }

    /// The losses over `count` training batches' worth of windows of each split, always the same, with as many rows at once as
    /// keep MLX busy.
    pub(super) fn estimate_losses(&mut self, count: usize) -> Result<Losses> {
        let context = self.config.context;
        let (all, rows) = (count * self.config.batch_size, self.evaluator.rows(context));
        if let Some((losses, accuracy)) = self.estimate_preferences(all)? {
            self.accuracy = Some(accuracy);
            return Ok(losses);
        }
        let parameters = self.state.model_parameters();
        let mut estimate = |source: &Source| {
            let batches = source.eval_batches(all, rows, context);
            anyhow::Ok(self.evaluator.evaluate(&parameters, batches)?.loss())
        };
        Ok(Losses {
            train: estimate(&self.train)?,
            val: estimate(&self.val)?,
        })
    }

    /// A sample of the current model, of that many tokens.
    pub(super) fn write_sample(&self, tokens: usize) -> Result<String> {
        let model = LanguageModel::new(&self.model, &self.state.model_parameters(), self.tokenizer.clone())?;
        let options = CompletionOptions {
            max_new_tokens: tokens,
            ignore_eos: true,
            seed: self.config.seed,
            ..CompletionOptions::default()
        };
        Ok(model.complete("", &options)?.text) // after the default prompt
    }

    /// The sample of the current model: text, or for a task, problems that it has solved, and how many are right.
    pub(super) fn sample_and_score(&mut self) -> Result<()> {
        if let Some(conversations) = self.val.conversations() {
            let parameters = self.state.model_parameters();
            self.sample = chat::sample(&self.model, &parameters, &self.tokenizer, conversations)?;
            return Ok(());
        }
        let Some(task) = &self.task else {
            self.sample = self.write_sample(SAMPLE_TOKENS)?;
            return Ok(());
        };
        let generator = Generator::new(&self.model, &self.state.model_parameters())?.for_tokenizer(&self.tokenizer);
        let answers = Answers::of(&generator, &self.tokenizer, task.held_out(SCORED_PROBLEMS), |_| ())?;
        self.sample = answers.sample(SHOWN_PROBLEMS);
        self.accuracy = Some(answers.score().accuracy());
        Ok(())
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
    pub fn parameter_counts(&self) -> (usize, usize) {
        let trainable = self.state.parameters.count();
        (trainable, trainable + self.state.frozen.count())
    }

    /// The numbers of training and of validation tokens, if it learns from a text.
    pub fn token_counts(&self) -> Option<[usize; 2]> {
        Some([self.train.tokens()?.len(), self.val.tokens()?.len()])
    }

    /// The numbers of training and of validation conversations, if it learns from some.
    pub fn conversation_counts(&self) -> Option<[usize; 2]> {
        Some([self.train.conversations()?.count(), self.val.conversations()?.count()])
    }

    /// The task that it learns, if it is one.
    pub fn task(&self) -> Option<&TaskData> {
        self.task.as_ref()
    }

    /// The fraction of held-out problems that the last evaluation found right, or of held-out pairs whose chosen answer is
    /// preferred.
    pub fn accuracy(&self) -> Option<f64> {
        self.accuracy
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
        self.saved.best
    }

    /// Options that changed on resume, one line each.
    pub fn changes(&self) -> &[String] {
        &self.changes
    }

    /// How the run can use less memory, in words.
    pub fn less_memory(&self) -> String {
        less_memory(&self.config, self.saved.step > 0)
    }
}

/// How a run can use less memory, in words. A started run cannot change its batch size.
pub(super) fn less_memory(config: &TrainConfig, begun: bool) -> String {
    // What is computed again is a block at a time, so that it takes two to save any.
    let has_blocks = config.layers > 1 && matches!(config.arch, Architecture::Gpt2 | Architecture::Modern);
    match (begun, has_blocks && !config.recompute) {
        (true, true) => "go on with --resume and --recompute".into(),
        (true, false) => "close other programs, or start a new run with --init-from and a lower --batch-size".into(),
        (false, true) => format!("give --recompute, or {LOWER}"),
        (false, false) => LOWER.into(),
    }
}

/// What determines rounding, the number of ranks too, as each sums its own rows first.
fn numerics_of(config: &TrainConfig, ranks: Option<&Ranks>) -> NumericsFingerprint {
    let mut numerics = numerics::current(config.device);
    numerics.insert("ranks".into(), ranks.map_or(1, Ranks::size).to_string());
    numerics
}

/// Copies the base model of the adapters into the run.
fn keep_base(run: &Run, setup: &mut Setup) -> Result<()> {
    if let Some(found) = &setup.base {
        base::copy(found, &run.base_folder())?;
        setup.base = Some(run.base_folder());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DEFAULT_CORPUS, Device, Preset};

    #[test]
    fn a_run_that_cannot_start_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let config = TrainConfig {
            layers: 1,
            heads: 1,
            embd: 8,
            threads: 1,
            ..Preset::Nano.train_config(Device::Cpu)
        };
        let dataset = Dataset::open(DEFAULT_CORPUS).unwrap();
        let setup = Setup::new(&config, &dataset).unwrap();
        let run = Run::create(&folder.path().join("run"), &config).unwrap();
        let (path, metrics) = (run.config_path(), run.metrics_path());
        std::fs::create_dir(&metrics).unwrap(); // it cannot be opened as a file
        assert!(path.exists());
        assert!(Session::assemble(None, config, run, setup).is_err());
        assert!(!path.exists(), "the next start finds no run");
    }
}

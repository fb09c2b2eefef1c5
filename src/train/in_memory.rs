//! A run in memory, without a folder, for comparing recipes.

use anyhow::{Result, bail, ensure};

use super::setup::Setup;
use super::step::{StepReport, Stepper, TrainState};
use crate::config::{OnNan, TrainConfig};
use crate::data::corpus::train_part;
use crate::data::dataset::Dataset;
use crate::data::source::Source;
use crate::data::tokens::Tokens;
use crate::evaluate::Evaluator;
use crate::evaluate::text::evaluate_tokens;

/// A run in memory, without a folder.
pub struct InMemoryRun {
    config: TrainConfig,
    context: usize,
    state: TrainState,
    stepper: Stepper,
    evaluator: Evaluator,
    train: Source,
    /// Tokens that its loss is evaluated on.
    eval_tokens: Tokens,
}

impl InMemoryRun {
    /// Trains on the training text, evaluates on the validation text.
    ///
    /// # Errors
    /// A configuration or a corpus that cannot be trained with.
    pub fn new(config: &TrainConfig, dataset: &Dataset) -> Result<Self> {
        Self::assemble(config, Setup::new(config, dataset)?)
    }

    /// Trains on the first nine tenths of the training text, evaluates on its last tenth: for choosing between recipes, for
    /// which the validation text must not be used.
    ///
    /// # Errors
    /// As [`new`](Self::new), or the last tenth is shorter than a row.
    pub fn within_training_text(config: &TrainConfig, dataset: &Dataset) -> Result<Self> {
        let mut setup = Setup::new(config, dataset)?;
        let tokens = text(setup.train)?;
        let (first, last) = tokens.split(train_part(tokens.len()));
        ensure!(
            last.len() > config.context,
            "corpus {} is too short: the last tenth of its training part has {} tokens, a context of {} needs more than that; use more text or a smaller context",
            config.corpus,
            last.len(),
            config.context
        );
        (setup.train, setup.val) = (Source::Text(first), Source::Text(last));
        Self::assemble(config, setup)
    }

    fn assemble(config: &TrainConfig, setup: Setup) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            context: setup.model.context,
            stepper: setup.stepper(config, None)?,
            evaluator: setup.evaluator(config)?,
            state: setup.state,
            train: setup.train,
            eval_tokens: text(setup.val)?,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Computes steps without updating anything, so that compilation is not timed later.
    ///
    /// # Errors
    /// Those of a step.
    pub fn warm_up(&mut self) -> Result<()> {
        self.stepper.time_step(&mut self.state, &self.train).map(drop)
    }

    /// Takes the next step.
    ///
    /// # Errors
    /// MLX's, or a token id outside the vocabulary.
    pub fn step(&mut self) -> Result<StepReport> {
        let batches = self.stepper.micro_batches(&self.train, self.state.step);
        self.stepper.step(&mut self.state, batches)
    }

    /// Whether a step ends the run: one that is not finite, unless such steps are skipped.
    pub fn is_fatal(&self, step: &StepReport) -> bool {
        step.found_inf && self.config.on_nan == OnNan::Stop
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.state.step
    }

    /// Whether all steps are done.
    pub fn is_finished(&self) -> bool {
        self.state.step == self.config.steps
    }

    /// The exact loss of the current model on the evaluation text, in nats per token.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn loss(&mut self) -> Result<f64> {
        let parameters = self.state.model_parameters();
        let evaluation = evaluate_tokens(
            &mut self.evaluator,
            &parameters,
            &self.eval_tokens,
            self.context,
            |_| (),
        )?;
        Ok(evaluation.loss())
    }
}

/// # Errors
/// It is no text.
fn text(source: Source) -> Result<Tokens> {
    match source {
        Source::Text(tokens) => Ok(tokens),
        Source::Task(_) => bail!("recipes are compared by their loss on a text, and a task has none; leave task out"),
        Source::Pairs(_) => bail!("recipes are compared by their loss on a text, and preference pairs have none"),
        Source::Chat(_) => {
            bail!("recipes are compared by their loss on a text, and conversations are none; leave chat out")
        }
    }
}

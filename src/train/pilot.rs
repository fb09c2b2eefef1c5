//! Measures a machine with a text: how long steps take, and what a short training comes to.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::freeze;
use super::setup::Setup;
use super::step::{Stepper, TrainState};
use crate::config::TrainConfig;
use crate::data::dataset::Dataset;
use crate::data::tokens::Tokens;
use crate::model::init;

/// Validation windows that a pilot training's loss is estimated on.
const WINDOWS: usize = 480;

/// A text on this machine, ready for short trainings.
pub struct Pilot {
    setup: Setup,
}

impl Pilot {
    /// Reads the text as `config` says.
    ///
    /// # Errors
    /// A configuration or a corpus that cannot be trained with; a task, which has no text.
    pub fn new(config: &TrainConfig, dataset: &Dataset) -> Result<Self> {
        let setup = Setup::new(config, dataset)?;
        if setup.train.tokens().is_none() {
            bail!("a task has no text to measure with");
        }
        Ok(Self { setup })
    }

    /// Tokens of the training text.
    pub fn training_tokens(&self) -> usize {
        self.setup.train.tokens().map_or(0, Tokens::len)
    }

    /// Tokens of the validation text.
    pub fn validation_tokens(&self) -> usize {
        self.setup.val.tokens().map_or(0, Tokens::len)
    }

    /// Size of the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.setup.model.vocab_size
    }

    /// Time of a step of that configuration of the text, after it is compiled.
    ///
    /// # Errors
    /// MLX's.
    pub fn time_step(&self, config: &TrainConfig) -> Result<Duration> {
        let (mut state, mut stepper) = self.begin(config)?;
        stepper.time_step(&mut state, &self.setup.train)
    }

    /// Trains for the configuration's steps; the validation loss, in nats, and the time of a step.
    ///
    /// # Errors
    /// MLX's.
    pub fn train(&self, config: &TrainConfig) -> Result<(f64, Duration)> {
        let (mut state, mut stepper) = self.begin(config)?;
        stepper.time_step(&mut state, &self.setup.train)?; // compiles
        let started = Instant::now();
        while state.step < config.steps {
            let batches = stepper.micro_batches(&self.setup.train, state.step);
            stepper.step(&mut state, batches)?;
        }
        let step = started.elapsed().div_f64(config.steps as f64);
        let mut evaluator = crate::evaluate::Evaluator::new(
            &config.model_config(self.vocabulary()),
            state.model_parameters().names(),
            config.compute_threads(),
        )?;
        let rows = evaluator.rows(config.context);
        let batches = self.setup.val.eval_batches(WINDOWS, rows, config.context);
        Ok((evaluator.evaluate(&state.model_parameters(), batches)?.loss(), step))
    }

    fn begin(&self, config: &TrainConfig) -> Result<(TrainState, Stepper)> {
        let model = config.model_config(self.vocabulary());
        let (trainable, frozen) = freeze::partition(config, &init::initialize(&model, config.seed)?)?;
        let state = TrainState::new(trainable, frozen, config.optimizer)?;
        let stepper = Stepper::new(config, &model, &state.parameters, &state.frozen)?;
        Ok((state, stepper.with_training_tokens(Some(self.training_tokens()))))
    }
}

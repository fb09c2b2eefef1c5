//! What a run learns from in each step: rows of its data, answers that it samples itself ([`grpo`]), or preference pairs ([`dpo`]).
//! The losses are in [`step::objective`](super::step::objective).

mod dpo;
mod grpo;

use std::time::Duration;

use anyhow::{Result, bail};

use super::metrics::AnswersRecord;
use super::session::Session;
use super::setup::Setup;
use super::step::gradients::MicroBatch;
use super::step::{PendingStep, Stepper, TrainState};
use crate::checkpoint::{Losses, PairLogprobs};
use crate::config::{Objective, TrainConfig};
use crate::data::source::Source;
use dpo::Dpo;
use grpo::Grpo;

/// What the steps of a run learn from.
pub enum Learner {
    /// Rows of the run's data.
    NextToken,
    /// Answers that are sampled in each step, and rewarded.
    Grpo(Box<Grpo>),
    /// Preference pairs.
    Dpo(Dpo),
}

/// Micro-batches, and how the answers in them are, if they were sampled.
type StepData = (Vec<MicroBatch>, Option<AnswersRecord>);

impl Learner {
    /// For a run with that configuration.
    ///
    /// # Errors
    /// A thread cannot be started; MLX's.
    pub(super) fn new(config: &TrainConfig, setup: &Setup) -> Result<Self> {
        Ok(match (config.objective(), &setup.reference, &setup.train) {
            (Objective::NextToken, ..) => Self::NextToken,
            (Objective::Grpo { .. }, Some(reference), Source::Task(problems)) => {
                Self::Grpo(Box::new(Grpo::new(config, reference.clone(), problems)?))
            }
            (Objective::Dpo { beta }, Some(reference), Source::Pairs(_)) => {
                let pairs = [&setup.train, &setup.val];
                let known = setup.pair_logprobs.clone();
                Self::Dpo(Dpo::new(config, beta, known, reference, pairs)?)
            }
            _ => bail!("the run has no reference model, or other data than its objective needs"),
        })
    }

    /// The first `count` micro-batches of the next step of `state`.
    ///
    /// # Errors
    /// MLX's; logits that are not numbers.
    pub(super) fn step_data(
        &mut self,
        stepper: &Stepper,
        state: &TrainState,
        source: &Source,
        count: usize,
    ) -> Result<StepData> {
        match self {
            Self::NextToken => {
                let mut batches = stepper.micro_batches(source, state.step);
                batches.truncate(count);
                Ok((batches, None))
            }
            Self::Grpo(grpo) => {
                let (batches, answers) = grpo.step_data(stepper, state, source, count)?;
                Ok((batches, Some(answers)))
            }
            Self::Dpo(dpo) => Ok((dpo.micro_batches(stepper, state.step, source, count)?, None)),
        }
    }

    /// What a checkpoint keeps of the reference model's log-probabilities.
    pub(super) fn pair_logprobs(&self) -> Option<PairLogprobs> {
        match self {
            Self::Dpo(dpo) => Some(dpo.reference.clone()),
            Self::NextToken | Self::Grpo(_) => None,
        }
    }
}

impl Session {
    /// The numbers of training and of held-out preference pairs, if it learns from these.
    pub fn pair_counts(&self) -> Option<[usize; 2]> {
        Some([self.train.pairs()?.len(), self.val.pairs()?.len()])
    }

    /// Estimates the time of a step.
    pub(super) fn estimate_step_time(&mut self) -> Result<Duration> {
        let (learner, source) = (&mut self.learner, &self.train);
        self.stepper.time_step_of(&mut self.state, |stepper, state, count| {
            Ok(learner.step_data(stepper, state, source, count)?.0)
        })
    }

    /// The micro-batches of the next step, and how the answers in them are, if they were sampled.
    pub(super) fn next_batches(&mut self) -> Result<StepData> {
        let count = self.config.grad_accum;
        self.learner.step_data(&self.stepper, &self.state, &self.train, count)
    }

    /// Dispatches the next step.
    pub(super) fn begin_step(&mut self) -> Result<PendingStep> {
        let (batches, answers) = self.next_batches()?;
        Ok(self.stepper.begin(&mut self.state, batches)?.with_answers(answers))
    }

    /// The losses of preference pairs, and the fraction of held-out pairs whose chosen answer is preferred; `None` where the run
    /// learns from something else.
    pub(super) fn estimate_preferences(&mut self, rows: usize) -> Result<Option<(Losses, f64)>> {
        let Learner::Dpo(dpo) = &self.learner else {
            return Ok(None);
        };
        let parameters = self.state.model_parameters();
        let context = self.config.context;
        let mut score = |source: &Source, reference: &[[f32; 2]]| {
            dpo.score(&mut self.evaluator, &parameters, source, reference, rows / 2, context)
        };
        let train = score(&self.train, &dpo.reference.train)?;
        let val = score(&self.val, &dpo.reference.val)?;
        let losses = Losses {
            train: train.loss.unwrap_or(f64::NAN),
            val: val.loss.unwrap_or(f64::NAN),
        };
        Ok(Some((losses, val.accuracy)))
    }
}

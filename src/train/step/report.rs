//! What a step tells when it is computed.

use anyhow::Result;

use super::arrays::StepMetrics;
use crate::train::metrics::{AnswersRecord, ObjectiveRecord};

/// A computed step.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Steps done with it.
    pub step: u64,
    /// Mean over the step's targets that are not ignored, before the update, in nats.
    pub loss: f32,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f32,
    /// Learning rate of the step.
    pub lr: f32,
    /// The loss or a gradient was not finite: the step was skipped.
    pub found_inf: bool,
    /// What an objective tells beside its loss.
    pub objective: Option<ObjectiveRecord>,
}

/// A dispatched step, which may still be computing.
pub struct PendingStep {
    pub(super) step: u64,
    pub(super) lr: f32,
    pub(super) metrics: StepMetrics,
    /// How the answers were that the step learns from, if it sampled any.
    pub(super) answers: Option<AnswersRecord>,
}

impl PendingStep {
    /// With what is known of the answers that it learns from.
    pub fn with_answers(self, answers: Option<AnswersRecord>) -> Self {
        Self { answers, ..self }
    }

    /// Waits for the step.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn report(&self) -> Result<StepReport> {
        Ok(StepReport {
            step: self.step,
            loss: self.metrics.loss.try_item_exact()?,
            grad_norm: self.metrics.grad_norm.try_item_exact()?,
            lr: self.lr,
            found_inf: self.metrics.found_inf.try_item_exact()?,
            objective: self.objective_record()?,
        })
    }

    fn objective_record(&self) -> Result<Option<ObjectiveRecord>> {
        let terms = self.metrics.terms.iter().map(|term| Ok(term.try_item_exact()?));
        let terms: Vec<f32> = terms.collect::<Result<_>>()?;
        Ok(ObjectiveRecord::new(self.answers, &terms))
    }
}

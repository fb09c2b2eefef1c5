//! Observation and cancellation of a run.

use std::time::Duration;

use super::session::Session;
use super::step::StepReport;
use crate::checkpoint::Losses;

/// A request to stop work early.
pub trait Interrupt {
    /// Whether the work should save and stop.
    fn requested(&self) -> bool;

    /// Called when the unsaved work changes: describes what would be lost if the process ended now, or `None` before the work
    /// begins and after its end.
    fn set_unsaved_work(&self, _what: Option<String>) {}
}

/// Receives the events of a run. The default methods do nothing.
///
/// ```
/// use mlx_gpt::checkpoint::Losses;
/// use mlx_gpt::train::{Observer, Session, Interrupt};
///
/// /// Prints the losses, and never stops the run.
/// struct Printer;
///
/// impl Interrupt for Printer {
///     fn requested(&self) -> bool {
///         false
///     }
/// }
///
/// impl Observer for Printer {
///     fn evaluated(&mut self, session: &Session, losses: Losses, _: f64) {
///         println!("step {}: {:.4}", session.step(), losses.val);
///     }
/// }
/// ```
pub trait Observer: Interrupt {
    /// The run is set up; its step is about to be compiled and timed.
    fn preparing(&mut self, _session: &Session) {}

    /// Training starts or resumes; `step` is the estimated time of a step.
    fn starting(&mut self, _session: &Session, _step: Duration) {}

    /// A step was taken.
    fn step(&mut self, _session: &Session, _step: &StepReport, _tokens_per_second: f64) {}

    /// A step was skipped because its loss or gradients were not finite.
    fn skipped(&mut self, _session: &Session, _step: &StepReport) {}

    /// Both losses were estimated and a sample was generated; tokens a second are 0 before the first step.
    fn evaluated(&mut self, _session: &Session, _losses: Losses, _tokens_per_second: f64) {}

    /// A problem that does not end the run.
    fn warning(&mut self, _message: &str) {}

    /// The run was asked to stop, and has saved a checkpoint.
    fn stopped(&mut self, _session: &Session) {}

    /// The last step is done and saved.
    fn finished(&mut self, _session: &Session) {}

    /// A resumed run has no steps left.
    fn nothing_to_do(&mut self, _session: &Session) {}
}

/// Observes nothing and never stops the run.
#[derive(Clone, Copy, Debug)]
pub struct NoopObserver;

impl Interrupt for NoopObserver {
    fn requested(&self) -> bool {
        false
    }
}

impl Observer for NoopObserver {}

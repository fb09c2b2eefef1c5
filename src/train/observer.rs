//! Who watches a run, and who may ask it to stop.

use std::time::Duration;

use super::session::Session;
use super::step::StepReport;
use crate::checkpoint::Losses;

/// Who may ask work to stop before its end.
pub trait Stop {
    /// Whether it is to stop, once what was done is saved.
    fn requested(&self) -> bool;

    /// What would be lost if the process ended now, in words; nothing is lost before the work begins and after its end.
    fn at_stake(&self, _what: Option<String>) {}
}

/// Who watches a run. Each method is called where its name says, and does nothing unless it is written.
///
/// ```
/// use mlx_gpt::checkpoint::Losses;
/// use mlx_gpt::train::{Observer, Session, Stop};
///
/// /// Prints the losses, and lets the run go on to its end.
/// struct Printer;
///
/// impl Stop for Printer {
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
pub trait Observer: Stop {
    /// The run is ready, and its step is about to be compiled and measured.
    fn preparing(&mut self, _session: &Session) {}

    /// Training begins, or goes on; a step takes about so long.
    fn starting(&mut self, _session: &Session, _step: Duration) {}

    /// A step was taken, at so many tokens a second.
    fn step(&mut self, _session: &Session, _step: &StepReport, _tokens_per_second: f64) {}

    /// A step changed nothing, as its numbers were not finite.
    fn skipped(&mut self, _session: &Session, _step: &StepReport) {}

    /// Both losses were estimated and a sample was written; training is at so many tokens a second, 0 before the first.
    fn evaluated(&mut self, _session: &Session, _losses: Losses, _tokens_per_second: f64) {}

    /// Something went wrong that does not end the run.
    fn warning(&mut self, _message: &str) {}

    /// The run was asked to stop, and has saved.
    fn stopped(&mut self, _session: &Session) {}

    /// The last step is done and saved.
    fn finished(&mut self, _session: &Session) {}

    /// A run that was resumed has no step left to take.
    fn nothing_to_do(&mut self, _session: &Session) {}
}

/// Nobody watches: a run goes on to its end, and says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unattended;

impl Stop for Unattended {
    fn requested(&self) -> bool {
        false
    }
}

impl Observer for Unattended {}

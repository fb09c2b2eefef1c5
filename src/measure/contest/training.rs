//! One training of a comparison: its steps, timed, its losses along the way, and its end when it is asked to stop.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::terminal::progress::{Progress, Unit};
use crate::train::{InMemoryRun, Interrupt, Outcome};

/// A point of a training's loss curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossPoint {
    /// Steps done.
    pub step: u64,
    /// Time of the steps, without evaluation and compiling.
    pub seconds: f64,
    /// Exact, over all that the run is scored on, in nats per token; none where the training diverged.
    pub val_loss: Option<f64>,
}

/// Trains to the end, or until the loss is not finite, and evaluates the loss after every `every` steps and after the last;
/// `what` is shown beside the steps. `None` if `interrupt` ended it.
///
/// # Errors
/// Those of a step or of an evaluation.
pub fn train(
    run: &mut InMemoryRun,
    what: &str,
    every: u64,
    interrupt: &dyn Interrupt,
) -> Result<Option<Vec<LossPoint>>> {
    let bar = Progress::new(what, run.config().steps, Unit::Of("steps"));
    interrupt.set_unsaved_work(Some("nothing".into()));
    run.warm_up()?;
    let mut clock = Duration::ZERO;
    let mut curve = Vec::new();
    let mut diverged = false;
    while !run.is_finished() && !diverged {
        if interrupt.requested() {
            return Ok(None);
        }
        let started = Instant::now();
        let step = run.step()?;
        clock += started.elapsed();
        diverged = run.is_fatal(&step);
        interrupt.set_unsaved_work(Some(format!("{} step(s) of this training", run.steps())));
        bar.set_position(run.steps());
        if run.steps().is_multiple_of(every) || run.is_finished() || diverged {
            let loss = if diverged { f64::NAN } else { run.loss()? };
            diverged |= !loss.is_finite();
            curve.push(LossPoint {
                step: run.steps(),
                seconds: clock.as_secs_f64(),
                val_loss: loss.is_finite().then_some(loss),
            });
        }
    }
    Ok(Some(curve))
}

/// How trainings one after the other ended; nothing of them can be lost any more.
pub fn outcome(interrupt: &dyn Interrupt) -> Outcome {
    interrupt.set_unsaved_work(None);
    if interrupt.requested() {
        Outcome::Stopped
    } else {
        Outcome::Finished
    }
}

//! Training: the loop, and what each line of it calls.

mod beginning;
pub mod data_parallel;
pub mod freeze;
pub mod gradients;
pub mod metrics;
pub mod optimizer;
pub mod plot;
mod report;
pub mod schedule;
mod session;
pub mod step;

pub use session::{Session, time_of_step};

use anyhow::{Result, ensure};

use crate::signals::Signals;
use metrics::{EvaluationLine, Line};

/// How a training run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    /// A signal asked it to stop, and it saved first.
    Interrupted {
        signal: i32,
    },
}

/// Trains until the last step or a signal, saving on the way and at the end.
///
/// # Errors
/// A step or an evaluation whose numbers are not finite; a disk that cannot be written.
pub fn train(session: &mut Session) -> Result<Outcome> {
    if session.state.step == session.config.steps {
        report::already_complete(session);
        return Ok(Outcome::Finished);
    }
    let signals = Signals::register()?;
    let mut report = report::Report::start(session)?;
    if session.state.step == 0 {
        evaluate(session, &mut report)?;
    }
    while session.state.step < session.config.steps {
        if let Some(signal) = signals.received() {
            session.save()?;
            report.interrupted(session);
            return Ok(Outcome::Interrupted { signal });
        }
        report.start_clock();
        let batches = session.stepper.micro_batches(&session.train_tokens, session.state.step);
        let step = session.stepper.step(&mut session.state, batches)?;
        ensure!(
            step.finite,
            "step {}: loss {} and gradient norm {} are not both finite; nothing was changed by it; last checkpoint: {}; try a lower --lr",
            session.state.step + 1,
            step.loss,
            step.grad_norm,
            session.last_checkpoint()
        );
        report.step(session, &step)?;

        let now = session.state.step;
        let save = now.is_multiple_of(session.config.save_every) || now == session.config.steps;
        if save || now.is_multiple_of(session.config.eval_every) {
            evaluate(session, &mut report)?;
        }
        if save {
            session.save()?;
        }
    }
    report.finished(session);
    Ok(Outcome::Finished)
}

/// Estimates both losses, samples, and draws the curve.
fn evaluate(session: &mut Session, report: &mut report::Report) -> Result<()> {
    let losses = session.estimate_losses()?;
    ensure!(
        losses.train.is_finite() && losses.val.is_finite(),
        "step {}: the losses {} and {} are not both finite; last checkpoint: {}; try a lower --lr",
        session.state.step,
        losses.train,
        losses.val,
        session.last_checkpoint()
    );
    session.sample = session.write_sample()?;
    session.metrics.log(Line::Evaluation(EvaluationLine {
        step: session.state.step,
        train_loss: losses.train,
        val_loss: losses.val,
    }))?;
    let curve = plot::loss_curve(&session.run.name(), &session.metrics)?;
    session.run.write_file(&session.run.curve_path(), curve.as_bytes())?;
    report.evaluation(session, losses);
    Ok(())
}

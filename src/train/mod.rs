//! Training: the loop, and the rooms that it calls.

pub mod freeze;
pub mod metrics;
pub mod optimizers;
mod phases;
pub mod plot;
mod report;
mod session;
mod setup;
pub mod step;
mod unsaved;

pub use session::{Session, time_of_step};
pub use unsaved::UnsavedRun;

use anyhow::{Result, bail, ensure};

use crate::config::OnNan;
use crate::disk::durable;
use metrics::{EvaluationLine, Line, NotFiniteLine};
use step::{Pending, StepReport};

/// How a training run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    /// It was asked to stop, and saved first.
    Stopped,
}

/// Who may ask work to stop before its end.
pub trait Stop {
    /// Whether it is to stop, once what was done is saved.
    fn requested(&self) -> bool;

    /// What would be lost if the process ended now, in words; nothing is lost before the work begins and after its end.
    fn at_stake(&self, _what: Option<String>) {}
}

/// Nobody asks.
pub struct ToTheEnd;

impl Stop for ToTheEnd {
    fn requested(&self) -> bool {
        false
    }
}

/// Trains until the last step or until `stop` asks to end, saving on the way and at the end.
///
/// A checkpoint on the way that cannot be saved is a warning: by the next one there may be space.
///
/// # Errors
/// A step or an evaluation whose numbers are not finite, unless such steps are skipped; a last checkpoint that cannot be
/// saved.
pub fn train(session: &mut Session, stop: &dyn Stop) -> Result<Outcome> {
    if session.state.step == session.config.steps {
        report::already_complete(session);
        return Ok(Outcome::Finished);
    }
    let outcome = train_steps(session, stop);
    stop.at_stake(None);
    outcome
}

fn train_steps(session: &mut Session, stop: &dyn Stop) -> Result<Outcome> {
    stop.at_stake(Some(session.not_saved_yet()));
    let mut report = report::Report::start(session).inspect_err(|_| session.run.discard())?;
    if session.state.step == 0 && !stop.requested() {
        evaluate(session, &mut report)?;
    }
    // The step before the one that is being computed: its numbers are read while the GPU is busy.
    let mut pending = None;
    while session.state.step < session.config.steps {
        stop.at_stake(Some(session.not_saved_yet()));
        if stop.requested() {
            finish(session, &mut report, pending.take())?;
            session.save()?;
            report.interrupted(session);
            return Ok(Outcome::Stopped);
        }
        report.start_clock();
        let batches = session.stepper.micro_batches(&session.train_tokens, session.state.step);
        let begun = session.stepper.begin(&mut session.state, batches)?;
        finish(session, &mut report, pending.replace(begun))?;

        let now = session.state.step;
        let last = now == session.config.steps;
        let save = now.is_multiple_of(session.config.save_every) || last;
        if save || now.is_multiple_of(session.config.eval_every) {
            finish(session, &mut report, pending.take())?;
            evaluate(session, &mut report)?;
        }
        if save {
            match session.save() {
                Err(error) if !last => report.warn(format_args!("{error:#}; the run goes on")),
                saved => saved?,
            }
        }
    }
    report.finished(session);
    Ok(Outcome::Finished)
}

/// Waits for a step that was begun, and reports it.
fn finish(session: &mut Session, report: &mut report::Report, pending: Option<Pending>) -> Result<()> {
    let Some(pending) = pending else {
        return Ok(());
    };
    let step = pending.report()?;
    session.stepper.count_skipped(&mut session.state, &step);
    if step.found_inf {
        skip(session, report, &step)
    } else {
        report.step(session, &step)
    }
}

/// Names the batch of a step whose numbers are not finite, and ends the run unless such steps are skipped.
fn skip(session: &mut Session, report: &mut report::Report, step: &StepReport) -> Result<()> {
    let not_finite = format!("loss {}, gradient norm {}", step.loss, step.grad_norm);
    session.metrics.log(Line::NotFinite(NotFiniteLine {
        step: step.step,
        not_finite: not_finite.clone(),
        seed: session.config.seed,
        rows: session.stepper.rows(&session.train_tokens, step.step - 1),
    }))?;
    let metrics = session.run.metrics_path();
    let message = format!(
        "step {}: {not_finite}, which are not both finite; it changed nothing; its batch is named in {}",
        step.step,
        metrics.display()
    );
    match session.config.on_nan {
        OnNan::Skip => report.warn(message),
        OnNan::Stop => bail!(
            "{message}; last checkpoint: {}; try a lower --lr, or skip such steps with --on-nan skip",
            session.last_checkpoint()
        ),
    }
    report.skipped(session, step);
    Ok(())
}

/// Estimates both losses, samples, and draws the curve.
fn evaluate(session: &mut Session, report: &mut report::Report) -> Result<()> {
    let losses = session.estimate_losses(session.config.eval_batches)?;
    let finite = losses.train.is_finite() && losses.val.is_finite();
    if !finite && session.config.on_nan == OnNan::Skip {
        report.warn(format_args!(
            "step {}: the losses {} and {} are not both finite, and no evaluation",
            session.state.step, losses.train, losses.val
        ));
        return Ok(());
    }
    ensure!(
        finite,
        "step {}: the losses {} and {} are not both finite; last checkpoint: {}; try a lower --lr",
        session.state.step,
        losses.train,
        losses.val,
        session.last_checkpoint()
    );
    session.sample = session.write_sample(session::SAMPLE_TOKENS)?;
    session.metrics.log(Line::Evaluation(EvaluationLine {
        step: session.state.step,
        train_loss: losses.train,
        val_loss: losses.val,
    }))?;
    let curve = plot::loss_curve(&session.run.name(), &session.metrics)?;
    if let Err(error) = durable::write_file(&session.run.curve_path(), curve.as_bytes()) {
        report.warn(format_args!("{error:#}; the run goes on"));
    }
    report.evaluation(session, losses);
    Ok(())
}

//! Training: the loop, and what each line of it calls.

mod beginning;
pub mod data_parallel;
pub mod freeze;
pub mod gradients;
mod loss_scale;
pub mod metrics;
pub mod optimizer;
mod phases;
pub mod plot;
mod report;
pub mod schedule;
mod session;
pub mod step;

pub use session::{Session, time_of_step};

use anyhow::{Result, bail, ensure};

use crate::config::OnNan;
use crate::durable;
use crate::signals::Signals;
use metrics::{EvaluationLine, Line, NotFiniteLine};
use step::StepReport;

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
/// A checkpoint on the way that cannot be saved is a warning: by the next one there may be space.
///
/// # Errors
/// A step or an evaluation whose numbers are not finite, unless such steps are to be left out; a last checkpoint that
/// cannot be saved.
pub fn train(session: &mut Session) -> Result<Outcome> {
    if session.state.step == session.config.steps {
        report::already_complete(session);
        return Ok(Outcome::Finished);
    }
    let signals = Signals::register()?;
    let mut report = report::Report::start(session).inspect_err(|_| session.run.discard())?;
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
        let before = session.state.step;
        let step = session.stepper.step(&mut session.state, batches)?;
        if step.finite {
            report.step(session, &step)?;
        } else {
            leave_out(session, &mut report, before, &step)?;
        }

        let now = session.state.step;
        let last = now == session.config.steps;
        let save = now.is_multiple_of(session.config.save_every) || last;
        if save || now.is_multiple_of(session.config.eval_every) {
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

/// Names the batch of the step after `before`, whose numbers are not finite, and ends the run if such a step is to.
fn leave_out(session: &mut Session, report: &mut report::Report, before: u64, step: &StepReport) -> Result<()> {
    let not_finite = format!("loss {}, gradient norm {}", step.loss, step.grad_norm);
    session.metrics.log(Line::NotFinite(NotFiniteLine {
        step: before + 1,
        not_finite: not_finite.clone(),
        seed: session.config.seed,
        rows: session.stepper.rows(&session.train_tokens, before),
    }))?;
    let metrics = session.run.metrics_path();
    let said = format!(
        "step {}: {not_finite}, which are not both finite; nothing was changed by it; its batch is named in {}",
        before + 1,
        metrics.display()
    );
    match session.config.on_nan {
        OnNan::Skip => report.warn(said),
        OnNan::Stop => bail!(
            "{said}; last checkpoint: {}; try a lower --lr, or leave such steps out with --on-nan skip",
            session.last_checkpoint()
        ),
    }
    report.left_out(session);
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

//! Training: the loop, and what each line of it calls.

mod compiled;
pub mod data_parallel;
pub mod evaluate;
pub mod gradients;
pub mod metrics;
pub mod optimizer;
pub mod plot;
mod report;
pub mod schedule;
mod session;
mod signals;
pub mod step;

pub use session::Session;

use anyhow::{Result, bail};

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
/// A step whose loss or gradients are not finite; a disk that cannot be written.
pub fn train(session: &mut Session) -> Result<Outcome> {
    let signals = signals::Signals::register()?;
    let mut report = session.announce()?;
    if session.state.step == 0 {
        evaluate(session, &mut report)?;
    }
    while session.state.step < session.config.steps {
        let batches = session.stepper.micro_batches(&session.train_tokens, session.state.step);
        let step = session.stepper.step(&mut session.state, batches)?;
        if !step.finite {
            let kept = session
                .run
                .newest_checkpoint()
                .map_or("none was saved yet".into(), |folder| folder.display().to_string());
            bail!(
                "step {}: loss {} and gradient norm {} are not both finite; nothing was changed by it; last checkpoint: {kept}; try a lower --lr",
                session.state.step + 1,
                step.loss,
                step.grad_norm
            );
        }
        report.step(session, &step)?;

        let (now, last) = (session.state.step, session.config.steps);
        let signal = signals.received();
        let save = now.is_multiple_of(session.config.save_every) || now == last;
        if save || now.is_multiple_of(session.config.eval_every) {
            evaluate(session, &mut report)?;
        }
        if save || signal.is_some() {
            session.save()?;
        }
        if let (Some(signal), true) = (signal, now < last) {
            report.interrupted(session);
            return Ok(Outcome::Interrupted { signal });
        }
        report.resume_clock();
    }
    report.finished(session);
    Ok(Outcome::Finished)
}

/// Estimates both losses, samples, and draws the curve.
fn evaluate(session: &mut Session, report: &mut report::Report) -> Result<()> {
    let losses = session.estimate_losses()?;
    session.sample = session.write_sample()?;
    session.progress.evaluated(session.state.step, losses);
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

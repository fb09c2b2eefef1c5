//! The training loop and its parts.
//!
//! ```no_run
//! use mlx_gpt::config::{Device, Preset};
//! use mlx_gpt::data::dataset::Dataset;
//! use mlx_gpt::train::{Session, NoopObserver, train};
//! use std::path::Path;
//!
//! let config = Preset::Nano.train_config(Device::current()?);
//! let dataset = Dataset::open(&config.corpus)?;
//! let mut session = Session::start(config, &dataset, Path::new("runs/mine"))?;
//! train(&mut session, &mut NoopObserver)?; // runs/mine/latest is a checkpoint now
//! # Ok::<(), anyhow::Error>(())
//! ```

mod chat;
mod configure;
#[cfg(feature = "cli")]
mod diagnosis;
pub mod freeze;
mod handover;
mod in_memory;
mod log;
pub mod metrics;
mod objective;
mod observer;
pub mod optimizers;
mod own;
mod pace;
mod patience;
mod phases;
#[cfg(feature = "cli")]
mod pilot;
#[cfg(feature = "plots")]
pub mod plot;
mod resumed;
mod saving;
mod session;
mod setup;
mod spike;
pub mod step;
mod together;

pub use configure::{absolute_corpus, configure, configure_resumed};
#[cfg(feature = "cli")]
pub use diagnosis::diagnose;
pub use in_memory::InMemoryRun;
pub use log::LOG_EVERY;
pub use observer::{Interrupt, NoopObserver, Observer};
pub use own::{OwnStep, OwnTraining};
pub use pace::{Clock, Speed};
#[cfg(feature = "cli")]
pub use pilot::Pilot;
pub use session::{Session, time_of_step};
pub use together::follow;

use anyhow::{Result, bail, ensure};

use crate::compute::memory;
use crate::config::{Objective, OnNan};
#[cfg(feature = "plots")]
use crate::disk::durable;
use log::StepLogger;
use metrics::{EvaluationRecord, NonFiniteRecord, Record};
use step::{PendingStep, StepReport};

/// How a training run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// After its last step.
    Finished,
    /// It was asked to stop, and saved a checkpoint first.
    Stopped,
}

/// Trains until the last step or until the observer asks to stop, saving checkpoints on the way and at the end.
///
/// A failed save on the way is only a warning, because there may be space by the next one; the last one must succeed.
///
/// # Errors
/// A step or an evaluation that is not finite, unless such steps are skipped; a last checkpoint that cannot be saved; a GPU
/// that runs out of memory, with advice on using less.
pub fn train(session: &mut Session, observer: &mut dyn Observer) -> Result<Outcome> {
    if session.state.step == session.total_steps() || session.out_of_patience() {
        draw_curve(session, observer)?; // an earlier full disk may have prevented it
        observer.nothing_to_do(session);
        return Ok(Outcome::Finished);
    }
    let outcome = train_steps(session, observer);
    observer.set_unsaved_work(None);
    outcome.map_err(|error| memory::with_oom_hint(error, session.less_memory()))
}

fn train_steps(session: &mut Session, observer: &mut dyn Observer) -> Result<Outcome> {
    observer.set_unsaved_work(Some(session.unsaved_steps()));
    observer.preparing(session);
    let step = session.estimate_step_time().inspect_err(|_| session.run.discard())?;
    memory::limit_cache(mlx_rs::memory::peak_memory()?)?;
    observer.starting(session, step);
    let mut log = StepLogger::new();
    if session.state.step == 0 && !observer.requested() {
        evaluate(session, &log, observer)?;
    }
    log.start_clock();
    session.continue_deadline();
    // The previous step: its result is read while the GPU computes the next one.
    let mut pending = None;
    while session.state.step < session.total_steps() {
        observer.set_unsaved_work(Some(session.unsaved_steps()));
        if session.stopping(observer) {
            report_pending(session, &mut log, observer, pending.take())?;
            session.meet()?;
            session.save()?;
            observer.stopped(session);
            return Ok(Outcome::Stopped);
        }
        let begun = session.begin_step()?;
        session.join()?;
        let mut spike = report_pending(session, &mut log, observer, pending.replace(begun))?;

        let now = session.state.step;
        let mut last = now == session.total_steps();
        let mut save = now.is_multiple_of(session.config.save_every) || last;
        let evaluates = save || now.is_multiple_of(session.config.eval_every);
        // A step that samples answers waits for the one before anyway; each is logged, with its own time.
        let waits = evaluates || session.config.objective() != Objective::NextToken;
        if waits && spike.is_none() {
            spike = report_pending(session, &mut log, observer, pending.take())?;
        }
        if let Some(spike) = spike {
            if spike::recover(session, observer, &spike)? {
                pending = None;
                log.start_clock();
                continue;
            }
            // The loss of the step before rose, and nothing is to go back to.
            if waits {
                report_pending(session, &mut log, observer, pending.take())?;
            }
        }
        if evaluates {
            session.pause_deadline();
            evaluate(session, &log, observer)?;
            last |= session.out_of_patience();
            save |= last || session.keeps_lowest();
        }
        session.follow_deadline(evaluates);
        if save {
            session.meet()?;
            match session.save_timed() {
                Err(error) if !last => observer.warning(&format!("{error:#}; training continues")),
                saved => saved?,
            }
        }
        if evaluates {
            session.continue_deadline();
        }
        if pending.is_none() {
            log.start_clock(); // what evaluations and checkpoints take is not counted
        }
        if last {
            break;
        }
    }
    observer.finished(session);
    Ok(Outcome::Finished)
}

/// Waits for a pending step, and reports it; gives it back if it completes a loss spike.
fn report_pending(
    session: &mut Session,
    log: &mut StepLogger,
    observer: &mut dyn Observer,
    pending: Option<PendingStep>,
) -> Result<Option<StepReport>> {
    let Some(pending) = pending else {
        return Ok(None);
    };
    let step = pending.report()?;
    session.stepper.count_skipped(&mut session.state, &step);
    if step.found_inf {
        handle_non_finite(session, log, observer, &step)?;
        return Ok(None);
    }
    log.step(session, &step)?;
    observer.step(session, &step, log.tokens_per_second());
    // Other losses than the next token's have no level: GRPO's is about 0 whatever the model has learned.
    let has_level = session.config.objective() == Objective::NextToken;
    Ok((has_level && session.state.loss_level.observe(step.loss)).then_some(step))
}

/// Records the batch of a step that is not finite, and ends the run unless such steps are skipped.
fn handle_non_finite(
    session: &mut Session,
    log: &mut StepLogger,
    observer: &mut dyn Observer,
    step: &StepReport,
) -> Result<()> {
    let not_finite = format!("loss {}, gradient norm {}", step.loss, step.grad_norm);
    session.metrics.log(Record::NotFinite(NonFiniteRecord {
        step: step.step,
        not_finite: not_finite.clone(),
        seed: session.config.seed,
        rows: session.stepper.rows(&session.train, step.step - 1),
    }))?;
    let metrics = session.run.metrics_path();
    let message = format!(
        "step {}: {not_finite}: not finite; the step changed nothing; its batch is recorded in {}",
        step.step,
        metrics.display()
    );
    match session.config.on_nan {
        OnNan::Skip => observer.warning(&message),
        OnNan::Stop => bail!(
            "{message}; last checkpoint: {}; try a lower --lr, or skip such steps with --on-nan skip",
            session.last_checkpoint()
        ),
    }
    log.count(session);
    observer.skipped(session, step);
    Ok(())
}

/// Estimates both losses, generates a sample, and draws the curve.
fn evaluate(session: &mut Session, log: &StepLogger, observer: &mut dyn Observer) -> Result<()> {
    let losses = session.estimate_losses(session.config.eval_batches)?;
    let finite = losses.train.is_finite() && losses.val.is_finite();
    if !finite && session.config.on_nan == OnNan::Skip {
        observer.warning(&format!(
            "step {}: the evaluation's losses {} and {} are not both finite; it is skipped",
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
    session.sample_and_score()?;
    session.metrics.log(Record::Evaluation(EvaluationRecord {
        step: session.state.step,
        train_loss: losses.train,
        val_loss: losses.val,
        accuracy: session.accuracy,
    }))?;
    draw_curve(session, observer)?;
    observer.evaluated(session, losses, log.tokens_per_second());
    Ok(())
}

/// Draws the curve so far, if the library was built with the feature `plots`.
#[cfg(feature = "plots")]
fn draw_curve(session: &mut Session, observer: &mut dyn Observer) -> Result<()> {
    let curve = plot::loss_curve(&session.run.name(), &session.metrics)?;
    let drawn = session.refresh_run_path();
    if let Err(error) = drawn.and_then(|()| durable::write_file(&session.run.curve_path(), curve.as_bytes())) {
        observer.warning(&format!("{error:#}; training continues"));
    }
    Ok(())
}

#[cfg(not(feature = "plots"))]
fn draw_curve(_: &mut Session, _: &mut dyn Observer) -> Result<()> {
    Ok(())
}

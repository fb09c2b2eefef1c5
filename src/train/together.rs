//! Training on several machines: what ranks do together besides the sums of a step, and the loop of all ranks but the first.

use std::rc::Rc;

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

use super::Outcome;
use super::handover::{self, Taken};
use super::observer::Interrupt;
use super::step::{Stepper, TrainState};
use crate::compute::memory;
use crate::compute::ranks::Ranks;
use crate::config::{ConfigOverrides, OnNan};

/// Takes rank 0's run, and its steps with it, until the last one or until any rank is asked to stop. `options` are those that
/// this rank was given; of them only those of its own machine matter.
///
/// # Errors
/// A text that is not there, or not rank 0's; a step that is not finite, unless such steps are skipped; MLX's.
pub fn follow(ranks: &Rc<Ranks>, options: &ConfigOverrides, interrupt: &dyn Interrupt) -> Result<Outcome> {
    let Taken {
        config,
        model,
        train_tokens,
        mut state,
    } = handover::take(ranks, options)?;
    let mut stepper = Stepper::among(Some(ranks), &config, &model, &state.parameters, &state.frozen)?;
    if state.step == config.steps {
        return Ok(Outcome::Finished);
    }
    // From here on a signal is passed on to all ranks.
    interrupt.set_unsaved_work(Some("what rank 0 has not saved yet".into()));
    stepper.time_step(&mut state, &train_tokens)?;
    memory::limit_cache(mlx_rs::memory::peak_memory()?)?;
    while state.step < config.steps {
        ranks.set_wants_stop(interrupt.requested());
        if ranks.stopping() {
            ensure_same_parameters(ranks, &state)?;
            return Ok(Outcome::Stopped);
        }
        let batches = stepper.micro_batches(&train_tokens, state.step);
        let step = stepper.begin(&mut state, batches)?.report()?;
        stepper.count_skipped(&mut state, &step);
        ensure!(
            !step.found_inf || config.on_nan == OnNan::Skip,
            "step {}: loss {}, gradient norm {}: not finite",
            step.step,
            step.loss,
            step.grad_norm
        );
        if state.step.is_multiple_of(config.save_every) || state.step == config.steps {
            ensure_same_parameters(ranks, &state)?;
        }
    }
    Ok(Outcome::Finished)
}

/// Compares the parameters of all ranks, before rank 0 saves its own for all.
///
/// # Errors
/// A rank's differ, to the bit.
pub(super) fn ensure_same_parameters(ranks: &Ranks, state: &TrainState) -> Result<()> {
    let mut hash = Sha256::new();
    for array in state.parameters.arrays() {
        hash.update(bytemuck::cast_slice::<f32, u8>(array.try_as_slice()?));
    }
    ranks.ensure_same("other parameters, after the same steps,", hash.finalize())
}

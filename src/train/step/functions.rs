//! The compiled functions of a step, and what passes through them.

use std::sync::Arc;

use anyhow::{Result, bail};
use mlx_rs::error::Result as MlxResult;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, ops};

use super::arrays::{StepInputs, StepMetrics, StepOutputs, StepScalars, UpdateInputs};
use super::gradients::{LossAndGradFn, MicroBatch, StepBatch};
use super::own;
use super::reduce::RankReduce;
use super::state::{TakenStates, TrainState, put_back_rows};
use super::table::TableRows;
use super::update::UpdateFn;
use super::workers::{GradientWorkers, UpdateWorkers};
use crate::compute::compiled::{Compiled, compiled};
use crate::train::own::OwnTraining;

/// What a step computes on.
pub struct StepBatches {
    pub batch: Arc<StepBatch>,
    /// The rows of the n-gram table that they need, if it is trained.
    pub table_rows: Option<TableRows>,
}

/// The step's compiled functions.
pub enum StepFunctions {
    /// On one thread (always on a GPU) with one micro-batch: one function for everything.
    Fused(Compiled<StepInputs, StepOutputs>),
    /// A function for the gradients of each micro-batch and one for the update, or several threads for either.
    Split {
        gradients: GradientWorkers,
        /// Where there are other ranks, with whose gradients this one's are summed.
        reduce: Option<RankReduce>,
        update: UpdateWorkers,
    },
    /// Code of the library's user.
    Own(Box<dyn OwnTraining>),
}

impl StepFunctions {
    /// For parameters of these costs, and a rank's rows `[first, end)` of each micro-batch.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(
        gradients: LossAndGradFn,
        update: UpdateFn,
        costs: &[u64],
        threads: usize,
        rows: [usize; 2],
        reduce: Option<RankReduce>,
    ) -> Result<Self> {
        if threads <= 1 && gradients.micro_batches == 1 && reduce.is_none() && rows == [0, gradients.batch_rows] {
            return Ok(Self::Fused(compiled(move |inputs| fused(&gradients, &update, inputs))));
        }
        Ok(Self::Split {
            update: UpdateWorkers::new(&update, costs, threads)?,
            reduce,
            gradients: GradientWorkers::of_rows(&gradients, rows, threads)?,
        })
    }

    /// Replaces parameters and moments in `state` with those after the step; lazily, on one thread. The n-gram table is then
    /// multiplied by `decay`, unless the step is skipped.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error). If a rank is lost, the process ends.
    pub fn call(
        &mut self,
        state: &mut TrainState,
        StepBatches { batch, table_rows }: &StepBatches,
        loss_scale: f32,
        scalars: StepScalars,
        decay: Option<f32>,
    ) -> Result<StepMetrics> {
        let table_rows = table_rows.as_ref();
        let (mut outputs, table) = match self {
            Self::Fused(function) => {
                let micro_batch = only(batch)?;
                let TakenStates { states, table } = state.take_states(table_rows)?;
                let inputs = StepInputs {
                    frozen: state.frozen.arrays().to_vec(),
                    states,
                    batch: batch.worker_batch(micro_batch, [0, micro_batch.batch.rows], loss_scale),
                    scalars,
                };
                (function(inputs)?, table)
            }
            Self::Split {
                gradients,
                reduce,
                update,
            } => {
                let TakenStates { states, table } = state.take_states(table_rows)?;
                if let Some((index, _)) = table {
                    // A graph belongs to its thread's stream: worker threads need evaluated arrays.
                    let rows = &states[index];
                    eval([&rows.parameter, &rows.m].into_iter().chain(&rows.v))?;
                }
                let parameters: Vec<Array> = states.iter().map(|state| state.parameter.clone()).collect();
                let mut gradients = gradients.compute(&parameters, state.frozen.arrays(), batch, loss_scale)?;
                drop(parameters);
                if let Some(reduce) = reduce {
                    gradients = vec![reduce.sum(gradients)?];
                }
                (update.update(states, gradients, &scalars)?, table)
            }
            Self::Own(training) => {
                return own::call(&mut **training, state, &only(batch)?.batch, &scalars);
            }
        };
        if let (Some(table), Some(rows)) = (table, table_rows) {
            let decay = decay.map(|factor| {
                let [one, factor] = [1.0, factor].map(Array::from_f32);
                ops::select(&outputs.metrics.found_inf, &one, &factor)
            });
            put_back_rows(&mut outputs.states, table, rows, decay.transpose()?)?;
        }
        state.restore(outputs.states)?;
        Ok(outputs.metrics)
    }
}

/// The micro-batch of a step that has one.
fn only(batch: &StepBatch) -> Result<&MicroBatch> {
    match batch.micro_batches() {
        [micro_batch] => Ok(micro_batch),
        several => bail!("a step of one micro-batch was given {}", several.len()),
    }
}

/// Gradients and update in one function.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn fused(gradients: &LossAndGradFn, update: &UpdateFn, inputs: StepInputs) -> MlxResult<StepOutputs> {
    let StepInputs {
        states,
        frozen,
        batch,
        scalars,
    } = inputs;
    let parameters: Vec<Array> = states.iter().map(|state| state.parameter.clone()).collect();
    let computed = gradients.gradients(0, &parameters, &frozen, &batch)?;
    update.update(UpdateInputs {
        losses: vec![computed.loss],
        terms: vec![computed.terms],
        squared_norms: None,
        gradients: computed.gradients,
        states,
        scalars,
    })
}

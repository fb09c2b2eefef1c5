//! The mutable state of training.

use std::sync::Arc;

use anyhow::Result;
use mlx_rs::error::Result as MlxResult;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, ops};

use super::arrays::ParameterState;
use super::table::TableRows;
use crate::checkpoint::{LossLevel, LossScale, Pace};
use crate::config::Optimizer;
use crate::model::ngrams;
use crate::model::parameters::Parameters;
use crate::train::optimizers::uses_adamw;

/// Everything that a step changes, and the frozen parameters.
#[derive(Clone)]
pub struct TrainState {
    /// Steps done, skipped ones included.
    pub step: u64,
    /// Trainable parameters.
    pub parameters: Parameters,
    /// Frozen parameters; with LoRA, the whole base model.
    pub frozen: Parameters,
    /// Running mean of the gradients of the trainable parameters, with the same names and shapes.
    pub m: Parameters,
    /// AdamW's running mean of their squares; Muon's parameters have none.
    pub v: Parameters,
    /// Steps that were skipped because their loss or gradients were not finite.
    pub skipped: u64,
    /// Loss scaling, in float16.
    pub loss_scale: Option<LossScale>,
    /// Returns to an earlier checkpoint so far.
    pub retry: u32,
    /// The level of the losses, by which spikes are noticed.
    pub loss_level: LossLevel,
    /// The plan, if the run ends at a given time.
    pub pace: Option<Pace>,
}

impl TrainState {
    /// The state before the first step.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn new(parameters: Parameters, frozen: Parameters, optimizer: Optimizer) -> Result<Self> {
        let zeros = parameters.map(|array| ops::zeros_like(array))?;
        let (with_v, _) = zeros.partition(|name, array| uses_adamw(optimizer, name, array.shape()));
        let state = Self {
            step: 0,
            parameters,
            frozen,
            m: zeros,
            v: with_v,
            skipped: 0,
            loss_scale: None,
            retry: 0,
            loss_level: LossLevel::default(),
            pace: None,
        };
        state.evaluate()?;
        Ok(state)
    }

    /// Evaluates all arrays: a graph belongs to its thread's stream, so that worker threads need numbers.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn evaluate(&self) -> MlxResult<()> {
        let arrays = [&self.parameters, &self.m, &self.v, &self.frozen];
        eval(arrays.into_iter().flat_map(Parameters::arrays))
    }

    /// All parameters of the model.
    pub fn model_parameters(&self) -> Parameters {
        self.parameters.union(&self.frozen)
    }

    /// Takes trainable parameters and moments, so that a step can write into their buffers. Of the n-gram table, if it is
    /// trained, it takes `rows`; the whole is returned beside them.
    pub(super) fn take_states(&mut self, rows: Option<&TableRows>) -> MlxResult<TakenStates> {
        let (mut states, mut table) = (Vec::with_capacity(self.m.arrays().len()), None);
        for ((name, parameter), m) in self.parameters.iter().zip(self.m.arrays()) {
            let state = ParameterState {
                parameter: parameter.clone(),
                m: m.clone(),
                v: self.v.get(name).ok().cloned(),
            };
            match rows.filter(|_| name == ngrams::TABLE) {
                Some(rows) => {
                    states.push(rows.gather(&state)?);
                    table = Some((states.len() - 1, state));
                }
                None => states.push(state),
            }
        }
        for part in [&mut self.parameters, &mut self.m, &mut self.v] {
            part.drop_arrays();
        }
        Ok(TakenStates { states, table })
    }

    /// Puts parameters and moments back after the step.
    pub(super) fn restore(&mut self, states: Vec<ParameterState>) -> MlxResult<()> {
        let (mut parameters, mut m, mut v) = (Vec::new(), Vec::new(), Vec::new());
        for state in states {
            parameters.push(state.parameter);
            m.push(state.m);
            v.extend(state.v);
        }
        for (part, arrays) in [(&mut self.parameters, parameters), (&mut self.m, m), (&mut self.v, v)] {
            *part = Parameters::new(&Arc::clone(part.names()), arrays)?;
        }
        Ok(())
    }
}

/// What a step takes of the state.
pub(super) struct TakenStates {
    /// What its functions get: of the n-gram table only the rows that it needs.
    pub states: Vec<ParameterState>,
    /// The whole n-gram table, and its index in `states`.
    pub table: Option<(usize, ParameterState)>,
}

/// Writes the step's rows into the whole n-gram table, `(index, table)`, in whose place they are in `states`, and multiplies
/// it by `decay`, a scalar.
pub(super) fn put_back_rows(
    states: &mut [ParameterState],
    (index, table): (usize, ParameterState),
    rows: &TableRows,
    decay: Option<Array>,
) -> MlxResult<()> {
    let mut table = rows.scatter(table, &states[index])?;
    if let Some(decay) = decay {
        table.parameter = table.parameter.multiply(decay)?;
    }
    states[index] = table;
    Ok(())
}

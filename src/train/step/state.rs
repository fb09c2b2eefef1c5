//! The mutable state of training.

use std::sync::Arc;

use anyhow::Result;
use mlx_rs::error::Result as MlxResult;
use mlx_rs::ops;
use mlx_rs::transforms::eval;

use super::arrays::ParameterState;
use crate::checkpoint::LossScale;
use crate::config::Optimizer;
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

    /// Takes trainable parameters and moments, so that a step can write into their buffers.
    pub(super) fn take_states(&mut self) -> Vec<ParameterState> {
        let both = self.parameters.iter().zip(self.m.arrays());
        let states = both.map(|((name, parameter), m)| ParameterState {
            parameter: parameter.clone(),
            m: m.clone(),
            v: self.v.get(name).ok().cloned(),
        });
        let states = states.collect();
        for part in [&mut self.parameters, &mut self.m, &mut self.v] {
            part.drop_arrays();
        }
        states
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

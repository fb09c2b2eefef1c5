//! The update: parameters and moments after a step.

use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};

use super::arrays::{ParameterState, StepOutputs, StepScalars, UpdateInputs};
use super::control::{StepControl, sum_of_squares, total};
use crate::config::{ModelConfig, TrainConfig};
use crate::model::parameters::Parameters;
use crate::train::optimizers::{ParameterOptimizer, adamw, muon};

/// The optimizer of each parameter: the same in every step of a run.
#[derive(Clone)]
pub struct UpdateFn {
    /// In the order of the trainable parameters.
    pub optimizers: Vec<ParameterOptimizer>,
    /// Maximum norm of the gradients; 0 disables clipping.
    pub grad_clip: f32,
}

impl UpdateFn {
    /// For the trainable `parameters` of a run of that configuration.
    pub fn new(config: &TrainConfig, model: &ModelConfig, parameters: &Parameters) -> Self {
        Self {
            optimizers: parameters
                .iter()
                .map(|(name, array)| ParameterOptimizer::new(config, model, name, array.shape()))
                .collect(),
            grad_clip: config.grad_clip,
        }
    }

    /// Approximate cost of the update by each gradient of these shapes, in FLOPs of a matrix product.
    pub fn costs(&self, shapes: &[Vec<i32>]) -> Vec<u64> {
        let pairs = self.optimizers.iter().zip(shapes);
        pairs.map(|(optimizer, shape)| optimizer.cost(shape)).collect()
    }

    /// The optimizers of the parameters of those indices.
    pub fn of(&self, indices: &[usize]) -> Self {
        Self {
            optimizers: indices.iter().map(|&index| self.optimizers[index].clone()).collect(),
            grad_clip: self.grad_clip,
        }
    }

    /// The found_inf check and clipping, then parameters and moments.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn update(&self, inputs: UpdateInputs) -> Result<StepOutputs> {
        let squared_norms = match inputs.squared_norms {
            Some(squared_norms) => squared_norms,
            None => inputs.gradients.iter().map(sum_of_squares).collect::<Result<_>>()?,
        };
        let mut control = StepControl::new(&inputs.losses, &squared_norms, &inputs.scalars, self.grad_clip)?;
        let count = inputs.terms.first().map_or(0, Vec::len);
        let of_all = |term: usize| {
            inputs
                .terms
                .iter()
                .map(|worker| worker[term].clone())
                .collect::<Vec<_>>()
        };
        control.metrics.terms = (0..count).map(|term| total(&of_all(term))).collect::<Result<_>>()?;
        Ok(StepOutputs {
            states: self.next_states(&inputs.states, &inputs.gradients, &control, &inputs.scalars)?,
            metrics: control.metrics,
        })
    }

    fn next_states(
        &self,
        old: &[ParameterState],
        gradients: &[Array],
        control: &StepControl,
        scalars: &StepScalars,
    ) -> Result<Vec<ParameterState>> {
        let clip_coefficient = &control.clip_coefficient;
        let adamw_scalars = adamw::Scalars {
            lr: scalars.lr.clone(),
            clip_coefficient: clip_coefficient.clone(),
            m_correction: scalars.m_correction.clone(),
            v_correction: scalars.v_correction.clone(),
        };
        let muon_scalars = muon::Scalars {
            lr: scalars.muon_lr.clone(),
            clip_coefficient: clip_coefficient.clone(),
        };
        let mut next = Vec::with_capacity(old.len());
        let mut momenta = Vec::new();
        for ((optimizer, old), gradient) in self.optimizers.iter().zip(old).zip(gradients) {
            let mut state = old.clone();
            match (optimizer, &old.v) {
                (ParameterOptimizer::AdamW(adamw), Some(old_v)) => {
                    let [m, v] = adamw.moments([&old.m, old_v], gradient, &adamw_scalars)?;
                    let (m, v) = (control.select(&old.m, &m)?, control.select(old_v, &v)?);
                    let moments = [&unfused(&m)?, &unfused(&v)?];
                    state.parameter = adamw.parameter(&old.parameter, moments, &adamw_scalars)?;
                    (state.m, state.v) = (m, Some(v));
                }
                (ParameterOptimizer::Muon(muon), None) => {
                    state.m = control.select(&old.m, &muon_scalars.momentum(&old.m, gradient)?)?;
                    // Nesterov's look-ahead, β m + (1 - β) g with the new m: the formula of the momentum, applied once more.
                    let nesterov = muon_scalars.momentum(&unfused(&state.m)?, gradient)?;
                    momenta.push((muon, nesterov));
                }
                _ => return Err(Exception::custom("a parameter has the moments of another optimizer")),
            }
            next.push(state);
        }
        let mut updates = muon::orthogonalized_updates(&momenta)?.into_iter();
        for ((optimizer, old), state) in self.optimizers.iter().zip(old).zip(&mut next) {
            if let ParameterOptimizer::Muon(muon) = optimizer
                && let Some(update) = updates.next()
            {
                state.parameter = muon.parameter(&old.parameter, &update, &muon_scalars)?;
            }
            state.parameter = control.select(&old.parameter, &state.parameter)?;
        }
        Ok(next)
    }
}

/// Identity, of any shape, that prevents MLX from fusing an operation with those that use its result.
///
/// A fused kernel with one result writes it into the buffer of its input; one with several results, such as the moments and
/// the parameter that depends on them, allocates memory for all.
fn unfused(array: &Array) -> Result<Array> {
    array.expand_dims(0)?.squeeze_axes(&[0])
}

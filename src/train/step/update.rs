//! The update: parameters and moments after a step.

use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};

use super::arrays::{ParameterState, StepOutputs, StepScalars, UpdateInputs};
use super::control::{Control, sum_of_squares};
use crate::config::{ModelConfig, TrainConfig};
use crate::model::parameters::Parameters;
use crate::train::optimizers::{Rule, adamw, muon};

/// How parameters learn: the same in every step of a run.
#[derive(Clone)]
pub struct UpdateSpec {
    /// Of each parameter that learns.
    pub rules: Vec<Rule>,
    /// The norm that gradients are clipped to; 0 for none.
    pub grad_clip: f32,
}

impl UpdateSpec {
    /// For the parameters that learn in a run of that configuration.
    pub fn new(config: &TrainConfig, model: &ModelConfig, parameters: &Parameters) -> Self {
        Self {
            rules: parameters
                .iter()
                .map(|(name, array)| Rule::new(config, model, name, array.shape()))
                .collect(),
            grad_clip: config.grad_clip,
        }
    }

    /// About how much work each parameter's update is.
    pub fn costs(&self, parameters: &Parameters) -> Vec<u64> {
        let rules = self.rules.iter().zip(parameters.arrays());
        rules.map(|(rule, array)| rule.cost(array.shape())).collect()
    }

    /// The same for the parameters of those indices.
    pub fn of(&self, indices: &[usize]) -> Self {
        Self {
            rules: indices.iter().map(|&index| self.rules[index].clone()).collect(),
            grad_clip: self.grad_clip,
        }
    }

    /// The update: control, then parameters and moments.
    ///
    /// # Errors
    /// MLX's.
    pub fn update(&self, inputs: UpdateInputs) -> Result<StepOutputs> {
        let squares = match inputs.squares {
            Some(squares) => squares,
            None => inputs.gradients.iter().map(sum_of_squares).collect::<Result<_>>()?,
        };
        let control = Control::new(&inputs.losses, &squares, &inputs.scalars, self.grad_clip)?;
        Ok(StepOutputs {
            states: self.next_states(&inputs.states, &inputs.gradients, &control, &inputs.scalars)?,
            metrics: control.metrics,
        })
    }

    fn next_states(
        &self,
        old: &[ParameterState],
        gradients: &[Array],
        control: &Control,
        scalars: &StepScalars,
    ) -> Result<Vec<ParameterState>> {
        let clip_coefficient = &control.clip_coefficient;
        let adamw_rates = adamw::Rates {
            lr: scalars.lr.clone(),
            clip_coefficient: clip_coefficient.clone(),
            m_correction: scalars.m_correction.clone(),
            v_correction: scalars.v_correction.clone(),
        };
        let muon_rates = muon::Rates {
            lr: scalars.muon_lr.clone(),
            clip_coefficient: clip_coefficient.clone(),
        };
        let mut next = Vec::with_capacity(old.len());
        let mut momenta = Vec::new();
        for ((rule, old), gradient) in self.rules.iter().zip(old).zip(gradients) {
            let mut state = old.clone();
            match (rule, &old.v) {
                (Rule::AdamW(adamw), Some(old_v)) => {
                    let [m, v] = adamw.moments([&old.m, old_v], gradient, &adamw_rates)?;
                    let (m, v) = (control.after(&old.m, &m)?, control.after(old_v, &v)?);
                    let moments = [&unfused(&m)?, &unfused(&v)?];
                    state.parameter = adamw.parameter(&old.parameter, moments, &adamw_rates)?;
                    (state.m, state.v) = (m, Some(v));
                }
                (Rule::Muon(muon), None) => {
                    state.m = control.after(&old.m, &muon_rates.momentum(&old.m, gradient)?)?;
                    let ahead = muon_rates.momentum(&unfused(&state.m)?, gradient)?; // Nesterov's
                    momenta.push((muon, ahead));
                }
                _ => return Err(Exception::custom("a parameter has the moments of another optimizer")),
            }
            next.push(state);
        }
        let mut directions = muon::directions(&momenta)?.into_iter();
        for ((rule, old), state) in self.rules.iter().zip(old).zip(&mut next) {
            if let Rule::Muon(muon) = rule
                && let Some(direction) = directions.next()
            {
                state.parameter = muon.parameter(&old.parameter, &direction, &muon_rates)?;
            }
            state.parameter = control.after(&old.parameter, &state.parameter)?;
        }
        Ok(next)
    }
}

/// The same array, which MLX does not fuse with what is made of it.
///
/// A fused kernel with one result writes it into the buffer of its input; one with several results, such as the moments and
/// the parameter that is made of them, takes new memory for all.
fn unfused(array: &Array) -> Result<Array> {
    if std::env::var_os("X_FUSED").is_some() { return Ok(array.clone()); }
    array.expand_dims(0)?.squeeze_axes(&[0])
}

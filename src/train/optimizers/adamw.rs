//! AdamW, as pure functions inside the compiled step.

use mlx_rs::Array;
use mlx_rs::error::Result;

/// β₁, the decay of the first moment.
pub const BETA1: f32 = 0.9;
/// ε, added to the square root of the second moment.
pub const EPSILON: f32 = 1e-8;

/// AdamW's constants in a run.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// β₂, the decay of the second moment.
    pub beta2: f32,
    /// Decoupled weight decay, a factor of the learning rate.
    pub weight_decay: f32,
    /// Factor of the run's learning rate.
    pub lr_factor: f32,
}

/// The values of a step, the same for all parameters: scalars, float32.
pub struct Scalars {
    /// Learning rate.
    pub lr: Array,
    /// Factor of the gradients.
    pub clip_coefficient: Array,
    /// `1 / (1 - β₁ᵗ)` of step t, counted from 1.
    pub m_correction: Array,
    /// `1 / (1 - β₂ᵗ)`.
    pub v_correction: Array,
}

impl AdamW {
    /// The running means of a parameter's gradient and of its square, `m` and `v`, after a step (Loshchilov and Hutter 2019,
    /// algorithm 2). All have the parameter's shape.
    pub fn moments(&self, [m, v]: [&Array; 2], gradient: &Array, scalars: &Scalars) -> Result<[Array; 2]> {
        let average = |old: &Array, new: &Array, coefficient: &Array, beta: f32| -> Result<Array> {
            let weight = coefficient.multiply(Array::from_f32(1.0 - beta))?;
            old.multiply(Array::from_f32(beta))?.add(new.multiply(weight)?)
        };
        let clip = &scalars.clip_coefficient;
        Ok([
            average(m, gradient, clip, BETA1)?,
            average(v, &gradient.square()?, &clip.square()?, self.beta2)?,
        ])
    }

    /// The updated parameter, with bias correction; `m` and `v` have its shape. Weight decay is for parameters of two or more
    /// dimensions: biases and norms are not decayed.
    pub fn parameter(&self, old: &Array, [m, v]: [&Array; 2], scalars: &Scalars) -> Result<Array> {
        let denominator = v
            .multiply(&scalars.v_correction)?
            .sqrt()?
            .add(Array::from_f32(EPSILON))?;
        let mut step = m.multiply(&scalars.m_correction)?.divide(denominator)?;
        if old.ndim() >= 2 {
            step = step.add(old.multiply(Array::from_f32(self.weight_decay))?)?;
        }
        let lr = match self.lr_factor {
            1.0 => scalars.lr.clone(),
            factor => scalars.lr.multiply(Array::from_f32(factor))?,
        };
        old.subtract(step.multiply(lr)?)
    }
}

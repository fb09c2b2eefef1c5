//! AdamW, as pure functions inside the compiled step.

use mlx_rs::Array;
use mlx_rs::error::Result;

pub const BETA1: f32 = 0.9;
pub const EPSILON: f32 = 1e-8;

/// AdamW, with what is the same in every step of a run.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub beta2: f32,
    pub weight_decay: f32,
}

/// What is the same for all parameters in one step: scalars, float32.
pub struct Rates {
    pub lr: Array,
    /// What gradients are multiplied by.
    pub clip_coefficient: Array,
    /// `1 / (1 - β₁ᵗ)` of step t, counted from 1.
    pub m_correction: Array,
    /// `1 / (1 - β₂ᵗ)`.
    pub v_correction: Array,
}

impl AdamW {
    // ANCHOR: adamw
    /// The running means of a parameter's gradient and of its square, `m` and `v`, after a step (Loshchilov and Hutter 2019,
    /// algorithm 2).
    pub fn moments(&self, [m, v]: [&Array; 2], gradient: &Array, rates: &Rates) -> Result<[Array; 2]> {
        // The clip coefficient is multiplied into the weights: a clipped copy of the gradient would take memory.
        let (clip, scalar) = (&rates.clip_coefficient, Array::from_f32);
        let m_weight = clip.multiply(scalar(1.0 - BETA1))?;
        let v_weight = scalar(1.0 - self.beta2);
        Ok([
            m.multiply(scalar(BETA1))?.add(gradient.multiply(m_weight)?)?,
            v.multiply(scalar(self.beta2))?
                .add(gradient.multiply(clip)?.square()?.multiply(v_weight)?)?,
        ])
    }

    /// The parameter after that step, with bias correction. Decay is for parameters of two or more dimensions: biases and
    /// layer norms keep what they learn.
    pub fn parameter(&self, old: &Array, [m, v]: [&Array; 2], rates: &Rates) -> Result<Array> {
        let denominator = v.multiply(&rates.v_correction)?.sqrt()?.add(Array::from_f32(EPSILON))?;
        let mut step = m.multiply(&rates.m_correction)?.divide(denominator)?;
        if old.ndim() >= 2 {
            step = step.add(old.multiply(Array::from_f32(self.weight_decay))?)?;
        }
        old.subtract(step.multiply(&rates.lr)?)
    }
    // ANCHOR_END: adamw
}

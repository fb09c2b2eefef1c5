//! AdamW and gradient clipping, as pure functions inside the compiled step.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops};

pub const BETA1: f32 = 0.9;
pub const EPSILON: f32 = 1e-8;

/// What AdamW needs beside the gradient, the same in every step of a run.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub beta2: f32,
    pub weight_decay: f32,
}

/// The numbers of one step that differ from step to step: scalars, float32.
pub struct Rates<'a> {
    pub lr: &'a Array,
    /// `1 / (1 - beta1ᵗ)` of step t, counted from 1.
    pub correction1: &'a Array,
    /// `1 / (1 - beta2ᵗ)`.
    pub correction2: &'a Array,
}

/// One parameter and its two moments.
#[derive(Clone)]
pub struct Slot {
    pub parameter: Array,
    /// Running mean of the gradient.
    pub m: Array,
    /// Running mean of its square.
    pub v: Array,
}

impl AdamW {
    // ANCHOR: adamw
    /// Loshchilov and Hutter (2019), algorithm 2, with bias correction. Decay is for parameters of two or more
    /// dimensions: biases and layer norms keep what they learn.
    pub fn update(&self, slot: &Slot, gradient: &Array, rates: &Rates) -> Result<Slot> {
        let scalar = Array::from_f32;
        let m = slot
            .m
            .multiply(scalar(BETA1))?
            .add(gradient.multiply(scalar(1.0 - BETA1))?)?;
        let v = slot
            .v
            .multiply(scalar(self.beta2))?
            .add(gradient.square()?.multiply(scalar(1.0 - self.beta2))?)?;
        let denominator = v.multiply(rates.correction2)?.sqrt()?.add(scalar(EPSILON))?;
        let mut step = m.multiply(rates.correction1)?.divide(denominator)?;
        if slot.parameter.ndim() >= 2 {
            step = step.add(slot.parameter.multiply(scalar(self.weight_decay))?)?;
        }
        let parameter = slot.parameter.subtract(step.multiply(rates.lr)?)?;
        Ok(Slot { parameter, m, v })
    }
    // ANCHOR_END: adamw
}

// ANCHOR: clip
/// `Σ g²` over all numbers of a gradient, a scalar.
pub fn sum_of_squares(gradient: &Array) -> Result<Array> {
    gradient.square()?.sum(None)
}

/// The global L2 norm over all gradients, from the sums of squares of each: `√(Σ g²)`, a scalar.
pub fn global_norm(squares: &[Array]) -> Result<Array> {
    total(squares)?.sqrt()
}

/// The sum of scalars.
pub fn total(scalars: &[Array]) -> Result<Array> {
    let zero = Array::from_f32(0.0);
    scalars.iter().try_fold(zero, |sum, scalar| sum.add(scalar))
}

/// The factor that brings gradients of norm `norm` down to `max_norm` (Pascanu et al. 2013); at most one.
pub fn clip_factor(norm: &Array, max_norm: f32) -> Result<Array> {
    let factor = ops::divide(Array::from_f32(max_norm), norm.add(Array::from_f32(1e-6))?)?;
    ops::minimum(factor, Array::from_f32(1.0))
}
// ANCHOR_END: clip

//! AdamW and gradient clipping, as pure functions inside the compiled step.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops};

pub const BETA1: f32 = 0.9;
pub const EPSILON: f32 = 1e-8;

/// AdamW, with what is the same in every step of a run.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub weight_decay: f32,
}

/// What AdamW goes by in one step: scalars, float32. With betas of one and a rate of zero, no number changes.
pub struct Rates {
    pub lr: Array,
    /// Share of the old `m` that is kept.
    pub beta1: Array,
    /// Share of the old `v` that is kept.
    pub beta2: Array,
    /// `1 / (1 - beta1ᵗ)` of step t, counted from 1.
    pub correction1: Array,
    /// `1 / (1 - beta2ᵗ)`.
    pub correction2: Array,
}

impl AdamW {
    // ANCHOR: adamw
    /// The running means of a parameter's gradient and of its square, `m` and `v`, after a step (Loshchilov and Hutter 2019,
    /// algorithm 2).
    pub fn moments(&self, [m, v]: [&Array; 2], gradient: &Array, rates: &Rates) -> Result<[Array; 2]> {
        let average = |old: &Array, new: &Array, beta: &Array| -> Result<Array> {
            let rest = Array::from_f32(1.0).subtract(beta)?;
            old.multiply(beta)?.add(new.multiply(rest)?)
        };
        Ok([
            average(m, gradient, &rates.beta1)?,
            average(v, &gradient.square()?, &rates.beta2)?,
        ])
    }

    /// The parameter after that step, with bias correction. Decay is for parameters of two or more dimensions: biases and
    /// layer norms keep what they learn.
    pub fn parameter(&self, old: &Array, [m, v]: [&Array; 2], rates: &Rates) -> Result<Array> {
        let denominator = v.multiply(&rates.correction2)?.sqrt()?.add(Array::from_f32(EPSILON))?;
        let mut step = m.multiply(&rates.correction1)?.divide(denominator)?;
        if old.ndim() >= 2 {
            step = step.add(old.multiply(Array::from_f32(self.weight_decay))?)?;
        }
        old.subtract(step.multiply(&rates.lr)?)
    }
    // ANCHOR_END: adamw
}

/// About as many numbers of a gradient have their squares held at a time.
const SQUARES: usize = 1 << 20;

// ANCHOR: clip
/// `Σ g²` over all numbers of a gradient, a scalar.
pub fn sum_of_squares(gradient: &Array) -> Result<Array> {
    if gradient.size() <= SQUARES {
        return gradient.square()?.sum(None);
    }
    let rows = gradient.dim(0) as usize;
    let part = (rows * SQUARES / gradient.size()).max(1);
    let ends: Vec<i32> = (part..rows).step_by(part).map(|end| end as i32).collect();
    let parts = gradient.split_at_indices(&ends, 0)?;
    let squares: Result<Vec<Array>> = parts.iter().map(|part| part.square()?.sum(None)).collect();
    total(&squares?)
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

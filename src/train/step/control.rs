//! The control of a step: whether it changes anything, and how far gradients are clipped.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops};

use super::arrays::{StepMetrics, StepScalars};
use crate::compute::operations;

/// What decides how far a step goes: scalars.
pub struct Control {
    pub metrics: StepMetrics,
    /// The step changes nothing.
    pub skips: Array,
    /// What gradients are multiplied by.
    pub clip_coefficient: Array,
}

impl Control {
    /// From the losses of all workers, and the sums of squares of all gradients. A step whose loss or gradients are not
    /// finite is skipped, as PyTorch's GradScaler skips it. Gradients are clipped to the norm `max_norm`; 0 is for none.
    ///
    /// # Errors
    /// MLX's.
    pub fn new(losses: &[Array], squares: &[Array], scalars: &StepScalars, max_norm: f32) -> Result<Self> {
        let loss = total(losses)?;
        let grad_norm = global_norm(squares)?;
        let finite = ops::logical_and(loss.is_finite()?, grad_norm.is_finite()?)?;
        Ok(Self {
            skips: ops::logical_and(&finite, &scalars.updates)?.logical_not()?,
            clip_coefficient: match max_norm {
                0.0 => Array::from_f32(1.0),
                _ => clip_coefficient(&grad_norm, max_norm)?,
            },
            metrics: StepMetrics {
                found_inf: finite.logical_not()?,
                loss,
                grad_norm,
            },
        })
    }

    /// The array after the step: `old` if the step is skipped.
    ///
    /// # Errors
    /// MLX's.
    pub fn after(&self, old: &Array, new: &Array) -> Result<Array> {
        ops::select(&self.skips, old, new)
    }
}

// ANCHOR: clip
/// `Σ g²` over all numbers of a gradient, a scalar.
pub fn sum_of_squares(gradient: &Array) -> Result<Array> {
    let at_once = operations::chunk_elements();
    if gradient.size() <= at_once {
        return gradient.square()?.sum(None);
    }
    let rows = gradient.dim(0) as usize;
    let part = (rows * at_once / gradient.size()).max(1);
    let ends: Vec<i32> = (part..rows).step_by(part).map(|end| end as i32).collect();
    let parts = gradient.split_at_indices(&ends, 0)?;
    let squares: Result<Vec<Array>> = parts.iter().map(|part| part.square()?.sum(None)).collect();
    total(&squares?)
}

/// The global L2 norm of all gradients, from the sums of squares of each: `√(Σ g²)`, a scalar.
pub fn global_norm(squares: &[Array]) -> Result<Array> {
    total(squares)?.sqrt()
}

/// The sum of scalars.
fn total(scalars: &[Array]) -> Result<Array> {
    let zero = Array::from_f32(0.0);
    scalars.iter().try_fold(zero, |sum, scalar| sum.add(scalar))
}

/// What gradients of norm `norm` are multiplied by, so that their norm is at most `max_norm` (Pascanu et al. 2013); at
/// most 1.
pub fn clip_coefficient(norm: &Array, max_norm: f32) -> Result<Array> {
    let coefficient = ops::divide(Array::from_f32(max_norm), norm.add(Array::from_f32(1e-6))?)?;
    ops::minimum(coefficient, Array::from_f32(1.0))
}
// ANCHOR_END: clip

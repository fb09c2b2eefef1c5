//! The found_inf check of a step, and gradient clipping.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops};

use super::arrays::{StepMetrics, StepScalars};
use crate::compute::operations;

/// Whether a step is skipped, and its factor of the gradients: scalars.
pub struct StepControl {
    /// The step's metrics.
    pub metrics: StepMetrics,
    /// Parameters and moments do not change: found_inf, or a step that is only timed.
    pub skip: Array,
    /// Factor of the gradients.
    pub clip_coefficient: Array,
}

impl StepControl {
    /// From the losses of all workers and the squared norms of all gradients, scalars. A step whose loss or gradients are
    /// not finite is skipped, as by PyTorch's GradScaler. Gradients are clipped to the norm `max_norm`; 0 disables clipping.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn new(losses: &[Array], squared_norms: &[Array], scalars: &StepScalars, max_norm: f32) -> Result<Self> {
        let loss = total(losses)?;
        let grad_norm = global_norm(squared_norms)?;
        let finite = ops::logical_and(loss.is_finite()?, grad_norm.is_finite()?)?;
        Ok(Self {
            skip: ops::logical_and(&finite, &scalars.updates)?.logical_not()?,
            clip_coefficient: match max_norm {
                0.0 => Array::from_f32(1.0),
                _ => clip_coefficient(&grad_norm, max_norm)?,
            },
            metrics: StepMetrics {
                found_inf: finite.logical_not()?,
                loss,
                grad_norm,
                terms: Vec::new(),
            },
        })
    }

    /// `new`, or `old` if the step is skipped; both of any one shape.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn select(&self, old: &Array, new: &Array) -> Result<Array> {
        ops::select(&self.skip, old, new)
    }
}

/// `Σ g²` over all elements of a gradient of any shape, a scalar.
pub fn sum_of_squares(gradient: &Array) -> Result<Array> {
    let chunk_size = operations::chunk_elements();
    if gradient.size() <= chunk_size {
        return gradient.square()?.sum(None);
    }
    let rows = gradient.dim(0) as usize;
    let chunk_rows = (rows * chunk_size / gradient.size()).max(1);
    let ends: Vec<i32> = (chunk_rows..rows).step_by(chunk_rows).map(|end| end as i32).collect();
    let chunks = gradient.split_at_indices(&ends, 0)?;
    let squares: Result<Vec<Array>> = chunks.iter().map(|chunk| chunk.square()?.sum(None)).collect();
    total(&squares?)
}

/// The global L2 norm of all gradients, from the squared norm of each: `√(Σ g²)`, a scalar.
pub fn global_norm(squared_norms: &[Array]) -> Result<Array> {
    total(squared_norms)?.sqrt()
}

/// The sum of scalars.
pub fn total(scalars: &[Array]) -> Result<Array> {
    let zero = Array::from_f32(0.0);
    scalars.iter().try_fold(zero, |sum, scalar| sum.add(scalar))
}

/// `min(1, max_norm / norm)`, the factor that brings gradients of norm `norm` down to `max_norm` (Pascanu et al. 2013);
/// scalars.
pub fn clip_coefficient(norm: &Array, max_norm: f32) -> Result<Array> {
    let coefficient = ops::divide(Array::from_f32(max_norm), norm.add(Array::from_f32(1e-6))?)?;
    ops::minimum(coefficient, Array::from_f32(1.0))
}

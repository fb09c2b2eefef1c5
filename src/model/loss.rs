//! Cross entropy.

use mlx_rs::error::Result;
use mlx_rs::{Array, Dtype, ops};

use crate::compute::operations::fused_cross_entropy;

/// Negative log-likelihood of each target, in nats and float32: logits `[B, T, V]` and targets `[B, T]` to `[B, T]`.
pub fn negative_log_likelihood(logits: &Array, targets: &Array) -> Result<Array> {
    if let Some(losses) = fused_cross_entropy(logits, targets)? {
        return Ok(losses);
    }
    let logits = logits.as_dtype(Dtype::Float32)?;
    let target_logits = ops::indexing::take_along_axis(&logits, targets.expand_dims(-1)?, -1)?; // [B, T, 1]
    logits
        .logsumexp_axis(-1, false)?
        .subtract(target_logits.squeeze_axes(&[-1])?)
}

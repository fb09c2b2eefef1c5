//! A causal depthwise convolution along the residual stream: a canon layer (Allen-Zhu 2025, "Physics of language models: Part
//! 4.1, Architecture design and the magic of canon layers").

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops;
use mlx_rs::ops::indexing::TryIndexOp;

use super::kv_cache::LayerCache;
use super::parameters::Scope;
use crate::compute::operations;
use crate::config::ModelConfig;

/// The convolution before a block, with a residual connection around it.
pub struct Convolution {
    /// Row j: the weight by channel of the token j places back, `[W, C]`.
    kernel: Array,
}

impl Convolution {
    /// The layer, if the model has such layers.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Option<Self>> {
        if config.components.convolution == 0 {
            return Ok(None);
        }
        Ok(Some(Self {
            kernel: parameters.array("weight")?,
        }))
    }

    // ANCHOR: convolution
    /// `x[t] + Σⱼ kernel[j] · x[t - j]`, where x is 0 before the first token: `[B, T, C]` to `[B, T, C]`.
    pub fn forward(&self, x: &Array, cache: Option<&mut LayerCache>) -> Result<Array> {
        let before = self.kernel.dim(0) - 1;
        let all = match cache {
            Some(cache) => cache.extend_inputs(x, before)?,
            None => ops::concatenate(&[zeros_before(x, before)?, x.clone()], 1)?,
        }; // [B, before + T, C]
        let end = all.dim(1);
        let mut sum = x.clone();
        for back in 0..=before {
            let earlier = all.try_index((.., before - back..end - back))?; // [B, T, C]
            sum = sum.add(operations::scale(&earlier, &self.kernel.try_index(back)?)?)?;
        }
        Ok(sum)
    }
    // ANCHOR_END: convolution
}

/// Zeros for `places` tokens before x `[B, T, C]`: `[B, places, C]`.
pub(super) fn zeros_before(x: &Array, places: i32) -> Result<Array> {
    ops::zeros_dtype(&[x.dim(0), places, x.dim(2)], x.dtype())
}

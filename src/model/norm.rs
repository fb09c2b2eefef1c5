//! Normalisation over the channels: layer norm or RMS norm.

use mlx_rs::error::Result;
use mlx_rs::{Array, fast};

use super::parameters::Scope;
use crate::compute::operations;
use crate::config;

/// GPT-2's, added to the variance, or to the mean of squares, before the root.
pub const EPSILON: f32 = 1e-5;

/// The normalisation before a branch of a block, and before the head.
pub enum Norm {
    Layer(LayerNorm),
    Rms,
}

impl Norm {
    pub fn new(kind: config::Norm, parameters: &Scope) -> Result<Self> {
        Ok(match kind {
            config::Norm::Layer => Self::Layer(LayerNorm::new(parameters)?),
            config::Norm::Rms => Self::Rms,
        })
    }

    /// The shape stays.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms => rms_norm(x),
        }
    }
}

/// Layer normalisation over the channels (Ba, Kiros, Hinton 2016), with gain and bias.
pub struct LayerNorm {
    weight: Array,
    bias: Array,
}

impl LayerNorm {
    pub fn new(parameters: &Scope) -> Result<Self> {
        Ok(Self {
            weight: parameters.array("weight")?,
            bias: parameters.array("bias")?,
        })
    }

    /// The shape stays.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        if operations::scales_apart(x) {
            let normalized = fast::layer_norm(x, None, None, EPSILON)?;
            operations::scale_and_shift(&normalized, &self.weight, &self.bias)
        } else {
            fast::layer_norm(x, &self.weight, &self.bias, EPSILON)
        }
    }
}

/// `x / √(mean(x²))` over the channels (Zhang and Sennrich 2019, equation 4, without gain).
pub fn rms_norm(x: &Array) -> Result<Array> {
    fast::rms_norm(x, None, EPSILON)
}

//! Normalisation over the channels: layer norm or RMS norm.

use mlx_rs::error::Result;
use mlx_rs::{Array, fast};

use super::parameters::Scope;
use crate::compute::operations;
use crate::config;

/// ε, added to the variance (or mean square) before the square root; GPT-2's.
pub const EPSILON: f32 = 1e-5;

/// The normalisation before a branch of a block, and before the output projection.
pub enum Norm {
    /// Layer norm, with weight and bias.
    Layer(LayerNorm),
    /// RMS norm, without parameters.
    Rms,
}

impl Norm {
    /// Builds the layer from its parameters.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(kind: config::NormKind, parameters: &Scope) -> Result<Self> {
        Ok(match kind {
            config::NormKind::Layer => Self::Layer(LayerNorm::new(parameters)?),
            config::NormKind::Rms => Self::Rms,
        })
    }

    /// `[…, C]` to `[…, C]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms => rms_norm(x),
        }
    }
}

/// Layer normalisation over the channels (Ba, Kiros, Hinton 2016).
pub struct LayerNorm {
    /// `[C]`.
    weight: Array,
    /// `[C]`.
    bias: Array,
}

impl LayerNorm {
    /// Builds the layer from its parameters.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(parameters: &Scope) -> Result<Self> {
        Ok(Self {
            weight: parameters.array("weight")?,
            bias: parameters.array("bias")?,
        })
    }

    /// `[…, C]` to `[…, C]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        if operations::scales_separately(x) {
            let normalized = fast::layer_norm(x, None, None, EPSILON)?;
            operations::scale_and_shift(&normalized, &self.weight, &self.bias)
        } else {
            fast::layer_norm(x, &self.weight, &self.bias, EPSILON)
        }
    }
}

/// `x / √(mean(x²) + ε)` over the channels (Zhang and Sennrich 2019, equation 4, without a weight): `[…, C]` to `[…, C]`.
pub fn rms_norm(x: &Array) -> Result<Array> {
    fast::rms_norm(x, None, EPSILON)
}

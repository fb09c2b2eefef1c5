//! The two layers that everything else is made of.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::{fast, ops};

use super::parameters::Scope;

/// GPT-2's layer-norm epsilon.
pub const LAYER_NORM_EPSILON: f32 = 1e-5;

/// `x W + b`. The weight is stored `[in, out]`, as GPT-2's Conv1D has it, so that files need no transpose.
pub struct Linear {
    weight: Array,
    bias: Array,
}

impl Linear {
    pub fn new(parameters: &Scope) -> Result<Self> {
        Ok(Self {
            weight: parameters.array("weight")?,
            bias: parameters.array("bias")?,
        })
    }

    /// `[…, in]` to `[…, out]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        ops::addmm(&self.bias, x, &self.weight, None, None)
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
        fast::layer_norm(x, &self.weight, &self.bias, LAYER_NORM_EPSILON)
    }
}

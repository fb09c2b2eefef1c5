//! Linear layers: a dense or a quantized matrix, a bias, and a low-rank adapter where there is one.

pub mod lora;
pub mod matrix;
pub mod quantized;

use mlx_rs::Array;
use mlx_rs::error::Result;

use super::parameters::Scope;
use crate::config::{LINEAR_LAYERS, ModelConfig};
use lora::LoraAdapter;
use matrix::Matrix;

/// The linear layer of a block whose weight a parameter is: `h.0.attn.c_attn` of `h.0.attn.c_attn.weight`.
pub fn linear_layer_of(parameter: &str) -> Option<&str> {
    let layer = parameter.strip_suffix(".weight")?;
    let in_block = LINEAR_LAYERS.iter().any(|linear| layer.ends_with(linear));
    in_block.then_some(layer)
}

/// `x W + b`, plus the output of a low-rank adapter where there is one.
pub struct Linear {
    /// `[in, out]`.
    weight: Matrix,
    /// `[out]`.
    bias: Array,
    adapter: Option<LoraAdapter>,
}

impl Linear {
    /// Builds the layer from its parameters.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(Self {
            weight: Matrix::new(parameters, config)?,
            bias: parameters.array("bias")?,
            adapter: LoraAdapter::new(parameters, config)?,
        })
    }

    /// `[…, in]` to `[…, out]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        let y = self.weight.affine(x, &self.bias)?;
        match &self.adapter {
            Some(adapter) => y.add(adapter.forward(x)?),
            None => Ok(y),
        }
    }
}

//! A matrix of floating-point numbers, or one of a few bits a number.

use mlx_rs::Array;
use mlx_rs::error::Result;

use super::quantized::Quantized;
use crate::compute::operations;
use crate::config::ModelConfig;
use crate::model::parameters::Scope;

/// The matrix of a linear layer or of an embedding.
pub enum Matrix {
    /// A linear layer's is `[in, out]`, as GPT-2's Conv1D has it, so that files need no transpose; an embedding's `[V, C]`.
    Dense(Array),
    /// By rows: of a linear layer `[out, in]`, of an embedding `[V, C]`.
    Quantized(Quantized),
}

impl Matrix {
    /// # Errors
    /// A parameter that the model has not.
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(match config.quantization {
            None => Self::Dense(parameters.array("weight")?),
            Some(quantization) => Self::Quantized(Quantized::new(parameters, quantization)?),
        })
    }

    /// `x W + b` of a linear layer: `[…, in]` to `[…, out]`.
    pub fn affine(&self, x: &Array, bias: &Array) -> Result<Array> {
        match self {
            Self::Dense(weight) => operations::affine(x, weight, bias),
            Self::Quantized(weight) => weight.times_rows(x)?.add(bias),
        }
    }

    /// The rows of those ids: `[B, T]` to `[B, T, C]`.
    pub fn rows(&self, ids: &Array) -> Result<Array> {
        match self {
            Self::Dense(weight) => operations::look_up(weight, ids),
            Self::Quantized(weight) => weight.rows(ids),
        }
    }

    /// The dot product of x with each row of an embedding: `[…, C]` to `[…, V]`.
    pub fn times_rows(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense(weight) => x.matmul(weight.transpose()?),
            Self::Quantized(weight) => weight.times_rows(x),
        }
    }

    /// The same, or more columns, of −∞, where a product is faster with them: `[…, C]` to `[…, V or more]`.
    pub fn times_aligned_rows(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense(weight) => operations::aligned_logits(x, weight),
            Self::Quantized(weight) => weight.times_rows(x),
        }
    }
}

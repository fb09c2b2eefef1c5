//! A dense or a quantized matrix.

use mlx_rs::Array;
use mlx_rs::error::Result;

use super::quantized::Quantized;
use crate::compute::operations;
use crate::config::ModelConfig;
use crate::model::parameters::Scope;

/// The matrix of a linear layer or of an embedding.
pub enum Matrix {
    /// Floating-point numbers. A linear layer's is `[in, out]`, as in GPT-2's Conv1D, so that files need no transpose; an
    /// embedding's is `[V, C]`.
    Dense(Array),
    /// Quantized along rows: a linear layer's is `[out, in]`, an embedding's `[V, C]`.
    Quantized(Quantized),
}

impl Matrix {
    /// Builds the matrix from its parameters.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(match config.quantization {
            None => Self::Dense(parameters.array("weight")?),
            Some(quantization) => Self::Quantized(Quantized::new(parameters, quantization)?),
        })
    }

    /// `x W + b` of a linear layer, b of `[out]`: `[…, in]` to `[…, out]`.
    pub fn affine(&self, x: &Array, bias: &Array) -> Result<Array> {
        match self {
            Self::Dense(weight) => operations::affine(x, weight, bias),
            Self::Quantized(weight) => weight.matmul_transposed(x)?.add(bias),
        }
    }

    /// The rows of an embedding by id: `[B, T]` to `[B, T, C]`.
    pub fn gather_rows(&self, ids: &Array) -> Result<Array> {
        match self {
            Self::Dense(weight) => operations::embedding_lookup(weight, ids),
            Self::Quantized(weight) => weight.gather_rows(ids),
        }
    }

    /// `x Wᵀ` of an embedding: `[…, C]` to `[…, V]`.
    pub fn matmul_transposed(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense(weight) => x.matmul(weight.transpose()?),
            Self::Quantized(weight) => weight.matmul_transposed(x),
        }
    }

    /// `x Wᵀ`, padded with columns of −∞ where that makes it faster: `[…, C]` to `[…, V_padded]`, V_padded ≥ V.
    pub fn matmul_transposed_padded(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense(weight) => operations::padded_logits(x, weight),
            Self::Quantized(weight) => weight.matmul_transposed(x),
        }
    }
}

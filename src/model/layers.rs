//! The layers that everything else is made of.

use mlx_rs::error::Result;
use mlx_rs::{Array, fast, ops};

use super::low_rank::LowRank;
use super::parameters::Scope;
use super::quantized::Quantized;
use crate::config::ModelConfig;

/// GPT-2's layer-norm epsilon.
pub const LAYER_NORM_EPSILON: f32 = 1e-5;

/// `x W + b`, and what a low-rank adapter adds where there is one.
pub struct Linear {
    weight: Matrix,
    bias: Array,
    adapter: Option<LowRank>,
}

/// A matrix of floating-point numbers, or one of a few bits a number.
enum Matrix {
    Full(Array),
    Quantized(Quantized),
}

impl Linear {
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(Self {
            weight: Matrix::new(parameters, config)?,
            bias: parameters.array("bias")?,
            adapter: LowRank::new(parameters, config)?,
        })
    }

    /// `[…, in]` to `[…, out]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        let y = match &self.weight {
            // `[in, out]`, as GPT-2's Conv1D has it, so that files need no transpose.
            Matrix::Full(weight) => ops::addmm(&self.bias, x, weight, None, None)?,
            Matrix::Quantized(weight) => weight.times_rows(x)?.add(&self.bias)?,
        };
        match &self.adapter {
            Some(adapter) => y.add(adapter.forward(x)?),
            None => Ok(y),
        }
    }
}

/// Vectors by token id, `[V, C]`; the same matrix, turned round, is GPT-2's output head.
pub struct Embedding(Matrix);

impl Embedding {
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(Self(Matrix::new(parameters, config)?))
    }

    /// The vectors of ids: `[B, T]` to `[B, T, C]`.
    pub fn forward(&self, ids: &Array) -> Result<Array> {
        match &self.0 {
            Matrix::Full(weight) => weight.take_axis(ids, 0),
            Matrix::Quantized(weight) => weight.rows(ids),
        }
    }

    /// How alike each id's vector is: `[…, C]` to logits `[…, V]`.
    pub fn as_head(&self, x: &Array) -> Result<Array> {
        match &self.0 {
            Matrix::Full(weight) => x.matmul(weight.transpose()?),
            Matrix::Quantized(weight) => weight.times_rows(x),
        }
    }
}

impl Matrix {
    fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(match config.quantization {
            None => Self::Full(parameters.array("weight")?),
            Some(quantization) => Self::Quantized(Quantized::new(parameters, quantization)?),
        })
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

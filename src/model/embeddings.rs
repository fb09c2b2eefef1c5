//! Token and position embeddings: what a token is, and where it stands, in one vector.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops;

use super::linear::matrix::Matrix;
use super::parameters::{Parameters, Scope};
use crate::config::{ModelConfig, Position};

/// Vectors by token id, `[V, C]`; transposed, the same matrix is GPT-2's output head.
pub struct Embedding(Matrix);

impl Embedding {
    /// # Errors
    /// A parameter that the model has not.
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(Self(Matrix::new(parameters, config)?))
    }

    /// The vectors of ids: `[B, T]` to `[B, T, C]`.
    pub fn forward(&self, ids: &Array) -> Result<Array> {
        self.0.rows(ids)
    }

    /// The dot product with each token's vector: `[…, C]` to logits `[…, V]`.
    pub fn as_head(&self, x: &Array) -> Result<Array> {
        self.0.times_rows(x)
    }

    /// The same for a loss, with further columns of −∞ where a product is faster with them: `[…, V or more]`.
    pub fn as_aligned_head(&self, x: &Array) -> Result<Array> {
        self.0.times_aligned_rows(x)
    }
}

/// Token and, where they are learned, position embeddings.
pub struct Embeddings {
    /// By token id, `[V, C]`.
    wte: Embedding,
    /// By position, `[context, C]`, where places have learned vectors.
    wpe: Option<Array>,
}

impl Embeddings {
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Ok(Self {
            wte: Embedding::new(&parameters.under("wte"), config)?,
            wpe: match config.parts.position {
                Position::Learned => Some(parameters.get("wpe.weight")?.clone()),
                Position::Rotary => None,
            },
        })
    }

    // ANCHOR: embeddings
    /// Ids `[B, T]` at positions from `start` on to `[B, T, C]`.
    pub fn forward(&self, ids: &Array, start: i32) -> Result<Array> {
        let tokens = self.wte.forward(ids)?; // [B, T, C]
        let Some(wpe) = &self.wpe else {
            return Ok(tokens);
        };
        let positions = ops::arange::<_, i32>(start, start + ids.dim(1), None)?; // [T]
        tokens.add(wpe.take_axis(&positions, 0)?) // + [T, C]
    }
    // ANCHOR_END: embeddings

    /// The output head: `[…, C]` to logits `[…, V]`. GPT-2 has no other.
    pub fn as_head(&self, x: &Array) -> Result<Array> {
        self.wte.as_head(x)
    }

    /// The same for a loss, with further columns of −∞ where a product is faster with them: `[…, V or more]`.
    pub fn as_aligned_head(&self, x: &Array) -> Result<Array> {
        self.wte.as_aligned_head(x)
    }
}

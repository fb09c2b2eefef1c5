//! Token and position embeddings.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops;

use super::hooks::Hook;
use super::linear::matrix::Matrix;
use super::parameters::{Parameters, Scope};
use crate::config::{ModelConfig, Position};

/// Vectors by token id, `[V, C]`; transposed, GPT-2's token embedding is its output projection too.
pub struct Embedding(Matrix);

impl Embedding {
    /// Builds the embedding from its parameters.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(Self(Matrix::new(parameters, config)?))
    }

    /// The vectors of ids: `[B, T]` to `[B, T, C]`.
    pub fn forward(&self, ids: &Array) -> Result<Array> {
        self.0.gather_rows(ids)
    }

    /// The dot product with each token's vector: `[…, C]` to logits `[…, V]`.
    pub fn logits(&self, x: &Array) -> Result<Array> {
        self.0.matmul_transposed(x)
    }

    /// Logits for a loss, padded with columns of −∞ where that makes the product faster: `[…, C]` to `[…, V_padded]`,
    /// V_padded ≥ V.
    pub fn padded_logits(&self, x: &Array) -> Result<Array> {
        self.0.matmul_transposed_padded(x)
    }
}

/// Token embeddings, and position embeddings where they are learned.
pub struct Embeddings {
    /// By token id, `[V, C]`.
    wte: Embedding,
    /// By position, `[context, C]`; none with rotary embeddings.
    wpe: Option<Array>,
}

impl Embeddings {
    /// Builds the embeddings from the model's parameters.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Ok(Self {
            wte: Embedding::new(&parameters.under("wte"), config)?,
            wpe: match config.components.position {
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

    /// As [`forward`](Self::forward) from position 0 on, through `hook`: `embed`, `[B, T, C]`, and `pos_embed`, `[B, T, C]`, where
    /// positions are learned.
    pub fn forward_hooked(&self, ids: &Array, hook: &mut Hook) -> Result<Array> {
        let tokens = hook("embed", self.wte.forward(ids)?)?;
        let Some(wpe) = &self.wpe else {
            return Ok(tokens);
        };
        let positions = ops::arange::<_, i32>(0, ids.dim(1), None)?; // [T]
        let positions = ops::broadcast_to(wpe.take_axis(&positions, 0)?, tokens.shape())?; // [B, T, C]
        tokens.add(hook("pos_embed", positions)?)
    }

    /// Position embeddings, `[context, C]`, where they are learned.
    pub fn wpe(&self) -> Option<&Array> {
        self.wpe.as_ref()
    }

    /// The token embedding, which is GPT-2's output projection as well.
    pub fn wte(&self) -> &Embedding {
        &self.wte
    }
}

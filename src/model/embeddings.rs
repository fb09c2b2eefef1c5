//! Token and position embeddings: what a token is, and where it stands, in one vector.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops;

use super::layers::Embedding;
use super::parameters::Parameters;
use crate::config::{ModelConfig, Position};

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

    /// How alike each token's vector is: `[…, C]` to logits `[…, V]`. GPT-2 has no other head.
    pub fn as_head(&self, x: &Array) -> Result<Array> {
        self.wte.as_head(x)
    }
}

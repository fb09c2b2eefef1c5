//! GPT-2 whole: embeddings, blocks, a last layer norm, and the token embedding again as the output head.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops;

use super::block::Block;
use super::dropout::{self, Dropout};
use super::layers::LayerNorm;
use super::parameters::Parameters;
use crate::config::ModelConfig;

pub struct Gpt {
    /// Token embeddings, `[V, C]`; tied to the output head.
    wte: Array,
    /// Position embeddings, `[context, C]`.
    wpe: Array,
    h: Vec<Block>,
    ln_f: LayerNorm,
}

impl Gpt {
    /// A model over handles of `parameters`, which must have the names that
    /// [`init::layout`](super::init::layout) lists for `config`.
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Ok(Self {
            wte: parameters.get("wte.weight")?.clone(),
            wpe: parameters.get("wpe.weight")?.clone(),
            h: (0..config.layers)
                .map(|layer| Block::new(&parameters.under(&format!("h.{layer}")), config.heads as i32))
                .collect::<Result<_>>()?,
            ln_f: LayerNorm::new(&parameters.under("ln_f"))?,
        })
    }

    /// Token ids `[B, T]`, T at most the context, to logits `[B, T, V]`: what the model expects after each token.
    pub fn forward(&self, ids: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        let positions = ops::arange::<_, i32>(None, ids.dim(1), None)?; // [T]
        let x = self
            .wte
            .take_axis(ids, 0)? // [B, T, C]
            .add(self.wpe.take_axis(&positions, 0)?)?; // + [T, C]
        let mut x = dropout::maybe(dropout, x)?;
        for block in &self.h {
            x = block.forward(&x, dropout)?;
        }
        self.ln_f.forward(&x)?.matmul(self.wte.t()) // [B, T, V]
    }
}

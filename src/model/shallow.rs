//! A model without blocks, on the way to GPT-2: embeddings, one look back, a head.

use mlx_rs::Array;
use mlx_rs::error::Result;

use super::attention::Attention;
use super::averaging::average_past;
use super::dropout::{self, Dropout};
use super::embeddings::Embeddings;
use super::kv_cache::LayerCache;
use super::linear::Linear;
use super::parameters::Parameters;
use crate::config::ModelConfig;

pub struct Shallow {
    embeddings: Embeddings,
    look_back: LookBack,
    /// C to V.
    lm_head: Linear,
}

/// How a token gathers from those before it.
enum LookBack {
    Averaging,
    Attention(Attention),
}

impl Shallow {
    /// A model that averages over the past.
    pub fn averaging(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Self::new(config, parameters, LookBack::Averaging)
    }

    /// A model that attends to it.
    pub fn attention(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        let attention = Attention::new(&parameters.under("attn"), config)?;
        Self::new(config, parameters, LookBack::Attention(attention))
    }

    fn new(config: &ModelConfig, parameters: &Parameters, look_back: LookBack) -> Result<Self> {
        Ok(Self {
            embeddings: Embeddings::new(config, parameters)?,
            look_back,
            lm_head: Linear::new(&parameters.under("lm_head"), config)?,
        })
    }

    // ANCHOR: forward
    /// Token ids `[B, T]` to logits `[B, T, V]`, after `start` tokens that are in `cache`.
    pub fn forward(
        &self,
        ids: &Array,
        start: i32,
        dropout: Option<&Dropout>,
        cache: Option<&mut LayerCache>,
    ) -> Result<Array> {
        let x = dropout::maybe(dropout, self.embeddings.forward(ids, start)?)?; // [B, T, C]
        let x = match &self.look_back {
            LookBack::Averaging => average_past(&x, cache)?,
            LookBack::Attention(attention) => attention.forward(&x, dropout, cache)?,
        }; // [B, T, C]
        self.lm_head.forward(&x)
    }
    // ANCHOR_END: forward
}

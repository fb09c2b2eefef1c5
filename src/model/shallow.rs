//! A model without blocks, on the way to GPT-2: embeddings, one token-mixing layer, an output projection.

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

/// A model of a single layer, which mixes tokens.
pub struct Shallow {
    embeddings: Embeddings,
    mixer: TokenMixer,
    /// C to V.
    lm_head: Linear,
}

/// How a token takes information from those before it.
enum TokenMixer {
    Averaging,
    Attention(Attention),
}

impl Shallow {
    /// The model of day 3, which averages the embeddings of the tokens so far.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn averaging(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Self::new(config, parameters, TokenMixer::Averaging)
    }

    /// The model of day 4, with one layer of attention.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn attention(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        let attention = Attention::new(&parameters.under("attn"), config)?;
        Self::new(config, parameters, TokenMixer::Attention(attention))
    }

    fn new(config: &ModelConfig, parameters: &Parameters, mixer: TokenMixer) -> Result<Self> {
        Ok(Self {
            embeddings: Embeddings::new(config, parameters)?,
            mixer,
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
        let x = match &self.mixer {
            TokenMixer::Averaging => average_past(&x, cache)?,
            TokenMixer::Attention(attention) => attention.forward(&x, dropout, cache)?,
        }; // [B, T, C]
        self.lm_head.forward(&x)
    }
    // ANCHOR_END: forward
}

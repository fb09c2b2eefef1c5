//! GPT-2 whole: embeddings, blocks, a last layer norm, and the token embedding again as the output head.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops::indexing::TryIndexOp;

use super::block::Block;
use super::dropout::{self, Dropout};
use super::embeddings::{Embedding, Embeddings};
use super::kv_cache::KvCache;
use super::loss::negative_log_likelihood;
use super::norm::Norm;
use super::parameters::Parameters;
use super::recomputed::RecomputedBlock;
use crate::config::ModelConfig;

pub struct Gpt {
    /// Those of the tokens are the output head, too, unless it has its own.
    embeddings: Embeddings,
    h: Vec<Block>,
    /// The same blocks, where a loss recomputes them.
    recomputed: Vec<RecomputedBlock>,
    ln_f: Norm,
    lm_head: Option<Embedding>,
}

impl Gpt {
    /// A model over handles of `parameters`, which must have the names that
    /// [`init::layout`](super::init::layout) lists for `config`, or
    /// [`quantized_layout`](super::linear::quantized::quantized_layout) for a quantized one.
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Ok(Self {
            embeddings: Embeddings::new(config, parameters)?,
            h: (0..config.layers)
                .map(|layer| Block::new(&parameters.under(&format!("h.{layer}")), config))
                .collect::<Result<_>>()?,
            recomputed: Vec::new(),
            ln_f: Norm::new(config.parts.norm, &parameters.under("ln_f"))?,
            lm_head: match config.parts.own_head {
                true => Some(Embedding::new(&parameters.under("lm_head"), config)?),
                false => None,
            },
        })
    }

    /// The same model, whose [`losses`](Self::losses) take less memory to have gradients of, and more time: of each block
    /// they keep the input alone.
    pub fn recomputing(mut self, config: &ModelConfig, parameters: &Parameters) -> Self {
        let blocks = 0..config.layers;
        self.recomputed = blocks
            .map(|layer| RecomputedBlock::new(layer, config, parameters))
            .collect();
        self
    }

    // ANCHOR: forward
    /// Token ids `[B, T]`, T at most the context, to logits `[B, T, V]`: what the model expects after each token.
    pub fn forward(&self, ids: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        self.logits(&self.residual_stream(ids, dropout)?)
    }

    /// Token ids `[B, T]` to what the last block leaves, `[B, T, C]`.
    fn residual_stream(&self, ids: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        let mut x = dropout::maybe(dropout, self.embeddings.forward(ids, 0)?)?;
        for block in &self.h {
            x = block.forward(&x, dropout, None)?;
        }
        Ok(x)
    }
    // ANCHOR_END: forward

    /// Token ids and targets `[B, T]` to the negative log-likelihood of each target, `[B, T]`, in nats and float32.
    pub fn losses(&self, ids: &Array, targets: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        let x = match self.recomputed.is_empty() {
            true => self.residual_stream(ids, dropout)?,
            false => self.recomputed_stream(ids, dropout)?,
        };
        let x = self.ln_f.forward(&x)?;
        let logits = match &self.lm_head {
            Some(head) => head.as_aligned_head(&x)?,
            None => self.embeddings.as_aligned_head(&x)?,
        };
        negative_log_likelihood(&logits, targets)
    }

    /// As [`residual_stream`](Self::residual_stream).
    fn recomputed_stream(&self, ids: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        let x = dropout::maybe(dropout, self.embeddings.forward(ids, 0)?)?;
        let mut blocks = self.recomputed.iter();
        blocks.try_fold(x, |x, block| block.forward(&x, dropout))
    }

    /// How much each token takes from each, layer by layer and head by head: token ids `[B, T]` to a `[B, H, T, T]` for each
    /// layer, each row summing to one. To be looked at; [`forward`](Self::forward) has no need to hold them.
    pub fn attention_weights(&self, ids: &Array) -> Result<Vec<Array>> {
        let mut x = self.embeddings.forward(ids, 0)?;
        let mut weights = Vec::with_capacity(self.h.len());
        for block in &self.h {
            weights.push(block.attention_weights(&x)?);
            x = block.forward(&x, None, None)?;
        }
        Ok(weights)
    }

    // ANCHOR: cached
    /// The next token ids `[B, T]` of sequences whose earlier tokens are in `cache`, which takes these too, to logits
    /// `[B, V]` of what comes after the last.
    ///
    /// # Errors
    /// More tokens than the context in all.
    pub fn forward_cached(&self, ids: &Array, cache: &mut KvCache) -> Result<Array> {
        let (start, caches) = cache.begin(ids.dim(1));
        let mut x = self.embeddings.forward(ids, start)?;
        for (block, cache) in self.h.iter().zip(caches) {
            x = block.forward(&x, None, Some(cache))?;
        }
        self.logits(&x.try_index((.., -1))?)
    }
    // ANCHOR_END: cached

    // ANCHOR: head
    /// The head: `[…, C]` to `[…, V]`.
    fn logits(&self, x: &Array) -> Result<Array> {
        let x = self.ln_f.forward(x)?;
        match &self.lm_head {
            Some(head) => head.as_head(&x),
            None => self.embeddings.as_head(&x),
        }
    }
    // ANCHOR_END: head
}

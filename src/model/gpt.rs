//! GPT-2: embeddings, blocks, a final layer norm, and the token embedding again as the output projection.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops::indexing::TryIndexOp;

use super::block::Block;
use super::dropout::{self, Dropout};
use super::embeddings::{Embedding, Embeddings};
use super::hooks::{Hook, within};
use super::kv_cache::KvCache;
use super::loss::negative_log_likelihood;
use super::ngrams::{self, NgramEmbedding};
use super::norm::Norm;
use super::parameters::Parameters;
use super::recomputed::RecomputedBlock;
use crate::config::ModelConfig;

/// GPT-2, with the components that its configuration names.
pub struct Gpt {
    embeddings: Embeddings,
    /// Only newer components have them.
    ngrams: Option<NgramEmbedding>,
    h: Vec<Block>,
    /// The same blocks, where a loss recomputes them.
    recomputed: Vec<RecomputedBlock>,
    ln_f: Norm,
    /// None where the token embedding is the output projection too.
    lm_head: Option<Embedding>,
}

impl Gpt {
    /// A model over handles of `parameters`, which must have the names that
    /// [`init::layout`](super::init::layout) lists for `config`, or
    /// [`quantized_layout`](super::linear::quantized::quantized_layout) for a quantized one.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Ok(Self {
            embeddings: Embeddings::new(config, parameters)?,
            ngrams: NgramEmbedding::new(config, parameters)?,
            h: (0..config.layers)
                .map(|layer| Block::new(&parameters.under(&format!("h.{layer}")), config))
                .collect::<Result<_>>()?,
            recomputed: Vec::new(),
            ln_f: Norm::new(config.components.norm, &parameters.under("ln_f"))?,
            lm_head: match config.components.tie_head {
                true => None,
                false => Some(Embedding::new(&parameters.under("lm_head"), config)?),
            },
        })
    }

    /// The same model with gradient checkpointing: the backward pass of [`losses`](Self::losses) keeps only each block's
    /// input and recomputes the rest, in less memory and more time.
    pub fn with_recompute(mut self, config: &ModelConfig, parameters: &Parameters) -> Self {
        let blocks = 0..config.layers;
        self.recomputed = blocks
            .map(|layer| RecomputedBlock::new(layer, config, parameters))
            .collect();
        self
    }

    /// The same model over some rows of its n-gram table: as [`NgramEmbedding::with_rows`].
    pub fn with_ngram_rows(mut self, rows: &[Array]) -> Self {
        self.ngrams = self.ngrams.map(|ngrams| ngrams.with_rows(rows));
        self
    }

    /// Token ids `[B, T]`, T at most the context, to the logits `[B, T, V]` of the token after each.
    pub fn forward(&self, ids: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        self.logits(&self.residual_stream(ids, dropout)?)
    }

    /// Token ids `[B, T]` to the residual stream after the last block, `[B, T, C]`.
    fn residual_stream(&self, ids: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        let (x, ngrams) = self.embed(ids, None)?;
        let mut x = dropout::maybe(dropout, x)?;
        for block in &self.h {
            x = block.forward(&plus(x, ngrams.as_ref())?, dropout, None)?;
        }
        Ok(x)
    }

    /// Token ids and targets `[B, T]` to the negative log-likelihood of each target, `[B, T]`, in nats and float32.
    pub fn losses(&self, ids: &Array, targets: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        let x = match self.recomputed.is_empty() {
            true => self.residual_stream(ids, dropout)?,
            false => self.recomputed_stream(ids, dropout)?,
        };
        let x = self.ln_f.forward(&x)?;
        negative_log_likelihood(&self.output().padded_logits(&x)?, targets)
    }

    /// As [`residual_stream`](Self::residual_stream), with blocks that are recomputed in the backward pass.
    fn recomputed_stream(&self, ids: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        let (x, ngrams) = self.embed(ids, None)?;
        let x = dropout::maybe(dropout, x)?;
        let mut blocks = self.recomputed.iter();
        blocks.try_fold(x, |x, block| block.forward(&plus(x, ngrams.as_ref())?, dropout))
    }

    /// As [`forward`](Self::forward) without dropout, through `hook`, which sees each activation by its name, and gives the one to
    /// go on with. [`hooks`](super::hooks) lists the names.
    pub fn forward_hooked(&self, ids: &Array, hook: &mut Hook) -> Result<Array> {
        let mut x = self.embeddings.forward_hooked(ids, hook)?;
        let ngrams = self.ngram_vectors(ids, None)?;
        for (layer, block) in self.h.iter().enumerate() {
            x = plus(x, ngrams.as_ref())?;
            x = block.forward_hooked(&x, &mut within(&format!("blocks.{layer}."), hook))?;
        }
        let x = hook("ln_final.normalized", self.ln_f.forward(&x)?)?;
        self.output().logits(&x)
    }

    /// Its token and position embeddings.
    pub fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    /// Attention weights of each head: token ids `[B, T]`, T at most the context, to a `[B, H, T, T]` for each layer, query by key, each row summing
    /// to one.
    pub fn attention_weights(&self, ids: &Array) -> Result<Vec<Array>> {
        let mut weights = Vec::with_capacity(self.h.len());
        self.forward_hooked(ids, &mut |name, x| {
            if name.ends_with(".attn.pattern") {
                weights.push(x.clone());
            }
            Ok(x)
        })?;
        Ok(weights)
    }

    /// Appends token ids `[B, T]` to sequences whose earlier tokens are in `cache`, adds them to it, and gives the logits
    /// `[B, V]` of the token after the last.
    ///
    /// # Errors
    /// More tokens in all than the context.
    pub fn forward_cached(&self, ids: &Array, cache: &mut KvCache) -> Result<Array> {
        let (mut x, ngrams) = self.embed(ids, Some(&mut *cache))?;
        let (_, caches) = cache.advance(ids.dim(1));
        for (block, cache) in self.h.iter().zip(caches) {
            x = block.forward(&plus(x, ngrams.as_ref())?, None, Some(cache))?;
        }
        self.logits(&x.try_index((.., -1))?)
    }

    /// Token ids `[B, T]`, after those in `cache`, to the residual stream and to the n-gram vectors that are added to it before
    /// each block, where there are any; both `[B, T, C]`.
    fn embed(&self, ids: &Array, cache: Option<&mut KvCache>) -> Result<(Array, Option<Array>)> {
        let start = cache.as_deref().map_or(0, KvCache::len) as i32;
        let x = self.embeddings.forward(ids, start)?;
        Ok((x, self.ngram_vectors(ids, cache)?))
    }

    fn ngram_vectors(&self, ids: &Array, cache: Option<&mut KvCache>) -> Result<Option<Array>> {
        let Some(ngrams) = &self.ngrams else {
            return Ok(None);
        };
        let before = ngrams.tokens_before();
        let tokens = match cache {
            Some(cache) => cache.extend_tokens(ids, before)?,
            None => ngrams::marked(ids, before)?,
        }; // [B, before + T]
        ngrams.forward(&tokens).map(Some)
    }

    /// The residual stream `[…, C]` to logits `[…, V]`: after the last block those of the model, after an earlier one what it would
    /// say if it ended there (the logit lens; nostalgebraist 2020).
    pub fn logits(&self, x: &Array) -> Result<Array> {
        self.output().logits(&self.ln_f.forward(x)?)
    }

    /// The output projection: the token embedding, unless the model has another.
    fn output(&self) -> &Embedding {
        self.lm_head.as_ref().unwrap_or(self.embeddings.wte())
    }
}

/// x plus the n-gram vectors, where there are any; both `[B, T, C]`.
fn plus(x: Array, ngrams: Option<&Array>) -> Result<Array> {
    match ngrams {
        Some(ngrams) => x.add(ngrams),
        None => Ok(x),
    }
}

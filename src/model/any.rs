//! Any of the architectures, as one type.

use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::indexing::TryIndexOp;

use super::bigram::Bigram;
use super::dropout::Dropout;
use super::gpt::Gpt;
use super::kv_cache::KvCache;
use super::loss::negative_log_likelihood;
use super::parameters::Parameters;
use super::shallow::Shallow;
use crate::config::{Architecture, ModelConfig};

/// A network from token ids to logits.
pub enum Model {
    /// GPT-2, or the same with newer components.
    Gpt2(Gpt),
    /// Day 2's table of logits.
    Bigram(Bigram),
    /// Day 3's and day 4's models of one layer.
    Shallow(Shallow),
}

impl Model {
    /// A model over handles of `parameters`, which must have the names that
    /// [`init::layout`](super::init::layout) lists for `config`, or
    /// [`quantized_layout`](super::linear::quantized::quantized_layout) for a quantized one.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Ok(match config.architecture {
            Architecture::Gpt2 | Architecture::Modern => Self::Gpt2(Gpt::new(config, parameters)?),
            Architecture::Bigram => Self::Bigram(Bigram::new(parameters)?),
            Architecture::Averaging => Self::Shallow(Shallow::averaging(config, parameters)?),
            Architecture::Attention => Self::Shallow(Shallow::attention(config, parameters)?),
        })
    }

    /// As [`Gpt::with_recompute`]; models without blocks are unchanged.
    pub fn with_recompute(self, config: &ModelConfig, parameters: &Parameters) -> Self {
        match self {
            Self::Gpt2(gpt) => Self::Gpt2(gpt.with_recompute(config, parameters)),
            other => other,
        }
    }

    /// As [`Gpt::with_ngram_rows`]; models without blocks are unchanged.
    pub fn with_ngram_rows(self, rows: &[Array]) -> Self {
        match self {
            Self::Gpt2(gpt) => Self::Gpt2(gpt.with_ngram_rows(rows)),
            other => other,
        }
    }

    /// As [`Gpt::forward`]: ids `[B, T]` to logits `[B, T, V]`.
    pub fn forward(&self, ids: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        match self {
            Self::Gpt2(gpt) => gpt.forward(ids, dropout),
            Self::Bigram(bigram) => bigram.forward(ids),
            Self::Shallow(shallow) => shallow.forward(ids, 0, dropout, None),
        }
    }

    /// As [`Gpt::losses`]: ids and targets `[B, T]` to `[B, T]`, in nats.
    pub fn losses(&self, ids: &Array, targets: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        match self {
            Self::Gpt2(gpt) => gpt.losses(ids, targets, dropout),
            Self::Bigram(_) | Self::Shallow(_) => negative_log_likelihood(&self.forward(ids, dropout)?, targets),
        }
    }

    /// As [`Gpt::forward_cached`]: new ids `[B, T]` to logits `[B, V]`.
    ///
    /// # Errors
    /// More tokens in all than the context; a bigram model looks at the last token alone, and takes any number.
    pub fn forward_cached(&self, ids: &Array, cache: &mut KvCache) -> Result<Array> {
        let logits = match self {
            Self::Gpt2(gpt) => return gpt.forward_cached(ids, cache),
            Self::Bigram(bigram) => {
                cache.advance(ids.dim(1));
                bigram.forward(ids)?
            }
            Self::Shallow(shallow) => {
                let (start, layers) = cache.advance(ids.dim(1));
                let layer = layers
                    .first_mut()
                    .ok_or_else(|| Exception::custom("the cache has no layer"))?;
                shallow.forward(ids, start, None, Some(layer))?
            }
        };
        logits.try_index((.., -1))
    }
}

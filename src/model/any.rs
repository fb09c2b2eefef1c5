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
    Gpt2(Gpt),
    Bigram(Bigram),
    Shallow(Shallow),
}

impl Model {
    /// A model over handles of `parameters`, which must have the names that
    /// [`init::layout`](super::init::layout) lists for `config`, or
    /// [`quantized_layout`](super::linear::quantized::quantized_layout) for a quantized one.
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Ok(match config.architecture {
            Architecture::Gpt2 | Architecture::Modern => Self::Gpt2(Gpt::new(config, parameters)?),
            Architecture::Bigram => Self::Bigram(Bigram::new(parameters)?),
            Architecture::Averaging => Self::Shallow(Shallow::averaging(config, parameters)?),
            Architecture::Attention => Self::Shallow(Shallow::attention(config, parameters)?),
        })
    }

    /// The same model, whose [`losses`](Self::losses) keep of each block the input alone, for gradients in less memory.
    /// Those that have no blocks stay as they are.
    pub fn recomputing(self, config: &ModelConfig, parameters: &Parameters) -> Self {
        match self {
            Self::Gpt2(gpt) => Self::Gpt2(gpt.recomputing(config, parameters)),
            other => other,
        }
    }

    /// Token ids `[B, T]`, T at most the context, to logits `[B, T, V]`: what the model expects after each token.
    pub fn forward(&self, ids: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        match self {
            Self::Gpt2(gpt) => gpt.forward(ids, dropout),
            Self::Bigram(bigram) => bigram.forward(ids),
            Self::Shallow(shallow) => shallow.forward(ids, 0, dropout, None),
        }
    }

    /// Token ids and targets `[B, T]` to the negative log-likelihood of each target, `[B, T]`, in nats and float32.
    pub fn losses(&self, ids: &Array, targets: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        match self {
            Self::Gpt2(gpt) => gpt.losses(ids, targets, dropout),
            Self::Bigram(_) | Self::Shallow(_) => negative_log_likelihood(&self.forward(ids, dropout)?, targets),
        }
    }

    /// The next token ids `[B, T]` of sequences whose earlier tokens are in `cache`, which takes these too, to logits
    /// `[B, V]` of what comes after the last.
    ///
    /// # Errors
    /// More tokens than the context in all.
    pub fn forward_cached(&self, ids: &Array, cache: &mut KvCache) -> Result<Array> {
        let logits = match self {
            Self::Gpt2(gpt) => return gpt.forward_cached(ids, cache),
            Self::Bigram(bigram) => {
                cache.begin(ids.dim(1));
                bigram.forward(ids)?
            }
            Self::Shallow(shallow) => {
                let (start, layers) = cache.begin(ids.dim(1));
                let layer = layers
                    .first_mut()
                    .ok_or_else(|| Exception::custom("the cache has no layer"))?;
                shallow.forward(ids, start, None, Some(layer))?
            }
        };
        logits.try_index((.., -1))
    }
}

//! A pre-norm transformer block, as in GPT-2 (Radford et al. 2019, section 2.3).

use mlx_rs::Array;
use mlx_rs::error::Result;

use super::attention::Attention;
use super::convolution::Convolution;
use super::dropout::Dropout;
use super::hooks::{Hook, within};
use super::kv_cache::LayerCache;
use super::mlp::Mlp;
use super::norm::Norm;
use super::parameters::Scope;
use crate::config::ModelConfig;

/// Attention and MLP, each a residual branch with a norm of its own before it.
pub struct Block {
    /// Only newer components have one.
    conv: Option<Convolution>,
    ln_1: Norm,
    attn: Attention,
    ln_2: Norm,
    mlp: Mlp,
}

impl Block {
    /// Builds the block from its parameters.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(Self {
            conv: Convolution::new(&parameters.under("conv"), config)?,
            ln_1: Norm::new(config.components.norm, &parameters.under("ln_1"))?,
            attn: Attention::new(&parameters.under("attn"), config)?,
            ln_2: Norm::new(config.components.norm, &parameters.under("ln_2"))?,
            mlp: Mlp::new(&parameters.under("mlp"), config)?,
        })
    }

    /// `[B, T, C]` to `[B, T, C]`.
    pub fn forward(&self, x: &Array, dropout: Option<&Dropout>, mut cache: Option<&mut LayerCache>) -> Result<Array> {
        let x = self.convolved(x, cache.as_deref_mut())?;
        let x = x.add(self.attn.forward(&self.ln_1.forward(&x)?, dropout, cache)?)?;
        x.add(self.mlp.forward(&self.ln_2.forward(&x)?, dropout)?)
    }

    /// As [`forward`](Self::forward) without dropout and cache, through `hook`, with the names that [`hooks`](super::hooks) lists.
    pub fn forward_hooked(&self, x: &Array, hook: &mut Hook) -> Result<Array> {
        let x = self.convolved(&hook("resid_pre", x.clone())?, None)?;
        let normalized = hook("ln1.normalized", self.ln_1.forward(&x)?)?;
        let attn = self.attn.forward_hooked(&normalized, &mut within("attn.", hook))?;
        let attn = hook("attn_out", attn)?;
        let x = hook("resid_mid", x.add(attn)?)?;
        let normalized = hook("ln2.normalized", self.ln_2.forward(&x)?)?;
        let mlp = self.mlp.forward_hooked(&normalized, &mut within("mlp.", hook))?;
        let mlp = hook("mlp_out", mlp)?;
        hook("resid_post", x.add(mlp)?)
    }

    /// x `[B, T, C]`, after the convolution if there is one.
    fn convolved(&self, x: &Array, cache: Option<&mut LayerCache>) -> Result<Array> {
        match &self.conv {
            Some(conv) => conv.forward(x, cache),
            None => Ok(x.clone()),
        }
    }
}

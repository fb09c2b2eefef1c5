//! Causal multi-head self-attention (Vaswani et al. 2017, section 3.2), the heads as a batch axis.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::ops;

use super::dropout::{self, Dropout};
use super::kv_cache::LayerCache;
use super::layers::Linear;
use super::parameters::Scope;
use crate::config::ModelConfig;

pub struct Attention {
    /// C to 3C: queries, keys and values of all heads in one product.
    c_attn: Linear,
    c_proj: Linear,
    heads: i32,
}

impl Attention {
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(Self {
            c_attn: Linear::new(&parameters.under("c_attn"), config)?,
            c_proj: Linear::new(&parameters.under("c_proj"), config)?,
            heads: config.heads as i32,
        })
    }

    /// `[B, T, C]` to `[B, T, C]`: each token gathers from itself and the tokens before it, those in `cache` included.
    pub fn forward(&self, x: &Array, dropout: Option<&Dropout>, cache: Option<&mut LayerCache>) -> Result<Array> {
        let [b, t, c] = [x.dim(0), x.dim(1), x.dim(2)];
        let head_size = c / self.heads;
        let scale = (head_size as f32).powf(-0.5);

        let qkv = self.c_attn.forward(x)?.split_equal(3, -1)?; // 3 × [B, T, C]
        let heads = |x: &Array| -> Result<Array> {
            x.reshape(&[b, t, self.heads, head_size])? // [B, T, H, D]
                .transpose_axes(&[0, 2, 1, 3]) // [B, H, T, D]
        };
        let (q, k, v) = (heads(&qkv[0])?, heads(&qkv[1])?, heads(&qkv[2])?);
        let (k, v) = match cache {
            Some(cache) => cache.extend(&k, &v)?, // [B, H, all tokens so far, D]
            None => (k, v),
        };

        let y = match dropout {
            None => {
                // One query comes last, and nothing is after it to be hidden.
                let mask = (t > 1).then_some(ScaledDotProductAttentionMask::Causal);
                scaled_dot_product_attention(&q, &k, &v, scale, mask, None)?
            }
            Some(dropout) => {
                let weights = dropout.apply(&attention_weights(&q, &k, scale)?)?;
                weights.matmul(&v)?
            }
        }; // [B, H, T, D]
        let y = y
            .transpose_axes(&[0, 2, 1, 3])? // [B, T, H, D]
            .reshape(&[b, t, c])?; // [B, T, C]
        dropout::maybe(dropout, self.c_proj.forward(&y)?)
    }
}

/// `softmax(q kᵀ · scale)` with the future masked out: q and k `[B, H, T, D]` to `[B, H, T, T]`, each row summing to one.
///
/// The fused kernel computes the same without ever holding the weights; dropout has to see them.
fn attention_weights(q: &Array, k: &Array, scale: f32) -> Result<Array> {
    let t = q.dim(-2);
    let position = ops::arange::<_, i32>(None, t, None)?; // [T]
    let future = ops::lt(position.reshape(&[t, 1])?, &position)?; // [T, T]
    let scores = q
        .multiply(Array::from_f32(scale).as_dtype(q.dtype())?)?
        .matmul(k.swap_axes(-1, -2)?)?; // [B, H, T, T]
    let minus_infinity = Array::from_f32(f32::NEG_INFINITY).as_dtype(q.dtype())?;
    ops::softmax_axis(ops::select(&future, &minus_infinity, &scores)?, -1, true)
}

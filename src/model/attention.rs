//! Causal multi-head self-attention (Vaswani et al. 2017, section 3.2), the heads as a batch axis.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::fast::{ScaledDotProductAttentionMask, rope, scaled_dot_product_attention};
use mlx_rs::ops;

use super::dropout::{self, Dropout};
use super::hooks::Hook;
use super::kv_cache::LayerCache;
use super::linear::Linear;
use super::norm::rms_norm;
use super::parameters::Scope;
use crate::config::{ModelConfig, Position};

/// θ, the base of the rotary embedding's wavelengths, the longest of which is about 2πθ positions. Smaller than the 10,000
/// of Su et al. (2021, section 3.2.2), because contexts here are a few hundred tokens.
pub const ROTARY_BASE: f32 = 1000.0;

/// Causal self-attention of one layer, with grouped queries where there are fewer heads of keys and values.
pub struct Attention {
    /// C to 3C: queries, keys and values of all heads in one product; fewer where heads share keys and values.
    c_attn: Linear,
    c_proj: Linear,
    heads: i32,
    /// Heads of keys and values, K.
    kv_heads: i32,
    rotary: bool,
    qk_norm: bool,
}

impl Attention {
    /// Builds the layer from its parameters.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(Self {
            c_attn: Linear::new(&parameters.under("c_attn"), config)?,
            c_proj: Linear::new(&parameters.under("c_proj"), config)?,
            heads: config.heads as i32,
            kv_heads: config.kv_heads() as i32,
            rotary: config.components.position == Position::Rotary,
            qk_norm: config.components.qk_norm,
        })
    }

    /// `[B, T, C]` to `[B, T, C]`: each token attends to itself and the tokens before it, those in `cache` included.
    pub fn forward(&self, x: &Array, dropout: Option<&Dropout>, cache: Option<&mut LayerCache>) -> Result<Array> {
        let start = cache.as_deref().map_or(0, LayerCache::len);
        let [q, k, v] = self.queries_keys_values(x, start)?;
        let (k, v) = match cache {
            Some(cache) => cache.extend(&k, &v)?, // [B, K, all tokens so far, D]
            None => (k, v),
        };

        let y = match dropout {
            None => {
                // A single query is the last position, and needs no mask.
                let mask = (x.dim(1) > 1).then_some(ScaledDotProductAttentionMask::Causal);
                scaled_dot_product_attention(&q, &k, &v, scale(&q), mask, None)?
            }
            Some(dropout) => {
                let weights = dropout.apply(&attention_weights(&q, &self.repeat_kv(&k)?)?)?;
                weights.matmul(self.repeat_kv(&v)?)?
            }
        }; // [B, H, T, D]
        let y = y
            .transpose_axes(&[0, 2, 1, 3])? // [B, T, H, D]
            .reshape(x.shape())?; // [B, T, C]
        dropout::maybe(dropout, self.c_proj.forward(&y)?)
    }

    /// Attention weights: x `[B, T, C]` to `[B, H, T, T]`, query by key, rows summing to 1. For inspection:
    /// [`forward`](Self::forward) without dropout never holds them.
    pub fn weights(&self, x: &Array) -> Result<Array> {
        let [q, k, _] = self.queries_keys_values(x, 0)?;
        attention_weights(&q, &self.repeat_kv(&k)?)
    }

    /// As [`forward`](Self::forward) without dropout and cache, through `hook`: `q`, `k` and `v`, `[B, T, H, D]` (keys and values
    /// `[B, T, K, D]`), `scores` with −∞ for the future and `pattern`, `[B, H, T, T]`, and `z`, `[B, T, H, D]`.
    pub fn forward_hooked(&self, x: &Array, hook: &mut Hook) -> Result<Array> {
        let [q, k, v] = self.queries_keys_values(x, 0)?;
        let mut by_position = |name: &str, x: &Array| -> Result<Array> {
            let x = hook(name, x.transpose_axes(&[0, 2, 1, 3])?)?; // [B, T, H, D]
            x.transpose_axes(&[0, 2, 1, 3])
        };
        let (q, k, v) = (by_position("q", &q)?, by_position("k", &k)?, by_position("v", &v)?);
        let scores = hook("scores", causal_scores(&q, &self.repeat_kv(&k)?)?)?;
        let pattern = hook("pattern", ops::softmax_axis(&scores, -1, true)?)?;
        let z = pattern.matmul(self.repeat_kv(&v)?)?.transpose_axes(&[0, 2, 1, 3])?; // [B, T, H, D]
        self.c_proj.forward(&hook("z", z)?.reshape(x.shape())?)
    }

    // ANCHOR: heads
    /// x `[B, T, C]`, at positions from `start` on, to queries `[B, H, T, D]`, and keys and values `[B, K, T, D]`.
    fn queries_keys_values(&self, x: &Array, start: i32) -> Result<[Array; 3]> {
        let [b, t, c] = [x.dim(0), x.dim(1), x.dim(2)];
        let head_size = c / self.heads;
        let keys = c + self.kv_heads * head_size; // where the keys end
        let qkv = self.c_attn.forward(x)?.split_at_indices(&[c, keys], -1)?; // [B, T, C] and 2 × [B, T, K D]
        let heads = |x: &Array, heads: i32| -> Result<Array> {
            x.reshape(&[b, t, heads, head_size])? // [B, T, H, D]
                .transpose_axes(&[0, 2, 1, 3]) // [B, H, T, D]
        };
        Ok([
            self.norm_and_rotate(heads(&qkv[0], self.heads)?, start)?,
            self.norm_and_rotate(heads(&qkv[1], self.kv_heads)?, start)?,
            heads(&qkv[2], self.kv_heads)?,
        ])
    }
    // ANCHOR_END: heads

    /// Keys or values `[B, K, T, D]`, repeated for the heads that share them, `[B, H, T, D]`.
    fn repeat_kv(&self, x: &Array) -> Result<Array> {
        ops::repeat_axis::<f32>(x.clone(), self.heads / self.kv_heads, 1)
    }

    /// Queries or keys, `[B, H, T, D]`, at positions from `start` on: with QK-norm and the rotary embedding, where the
    /// model has them.
    fn norm_and_rotate(&self, x: Array, start: i32) -> Result<Array> {
        let x = if self.qk_norm { rms_norm(&x)? } else { x };
        if self.rotary {
            rope(&x, x.dim(-1), false, ROTARY_BASE, 1.0, start, None)
        } else {
            Ok(x)
        }
    }
}

/// `1 / √D`, D the head size: scores of queries and keys of unit variance then have unit variance too.
fn scale(q: &Array) -> f32 {
    (q.dim(-1) as f32).powf(-0.5)
}

/// `softmax(q kᵀ / √D)` with a causal mask: q and k `[B, H, T, D]` to `[B, H, T, T]`, rows summing to 1.
///
/// The fused kernel never holds the weights; dropout on them needs them.
fn attention_weights(q: &Array, k: &Array) -> Result<Array> {
    ops::softmax_axis(causal_scores(q, k)?, -1, true)
}

/// `q kᵀ / √D`, −∞ where the key comes after the query: q and k `[B, H, T, D]` to `[B, H, T, T]`.
fn causal_scores(q: &Array, k: &Array) -> Result<Array> {
    let t = q.dim(-2);
    let position = ops::arange::<_, i32>(None, t, None)?; // [T]
    let future = ops::lt(position.reshape(&[t, 1])?, &position)?; // [T, T]
    let scores = q
        .multiply(Array::from_f32(scale(q)).as_dtype(q.dtype())?)?
        .matmul(k.swap_axes(-1, -2)?)?; // [B, H, T, T]
    let minus_infinity = Array::from_f32(f32::NEG_INFINITY).as_dtype(q.dtype())?;
    ops::select(&future, &minus_infinity, &scores)
}

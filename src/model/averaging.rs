//! The simplest way to look back: each token takes the mean of itself and the tokens before it.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::{Dtype, ops};

use super::kv_cache::LayerCache;

/// `[B, T, C]` to `[B, T, C]`: the mean over all tokens so far, those in `cache` included.
pub fn average_past(x: &Array, cache: Option<&mut LayerCache>) -> Result<Array> {
    let all = match cache {
        None => x.clone(),
        Some(cache) => {
            let one_head = x.expand_dims(1)?; // [B, 1, T, C]
            cache.extend(&one_head, &one_head)?.1.squeeze_axes(&[1])?
        }
    }; // [B, S, C], the last T of S tokens are those of x
    averaging_weights(x.dim(1), all.dim(1))?
        .as_dtype(x.dtype())?
        .matmul(&all)
}

// ANCHOR: weights
/// How much each of the last `t` tokens takes from each of all `s`, `[T, S]`: the n-th of all takes one n-th from itself
/// and from each before it, and nothing from those after it.
pub fn averaging_weights(t: i32, s: i32) -> Result<Array> {
    let reader = ops::arange::<_, i32>(s - t, s, None)?.reshape(&[t, 1])?; // [T, 1]
    let source = ops::arange::<_, i32>(None, s, None)?; // [S]
    let past = ops::le(&source, &reader)?.as_dtype(Dtype::Float32)?; // [T, S], ones and zeros
    let count = reader.as_dtype(Dtype::Float32)?.add(Array::from_f32(1.0))?; // [T, 1]
    past.divide(count)
}
// ANCHOR_END: weights

//! The simplest causal token mixing: each token takes the mean of itself and the tokens before it.

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
/// Causal averaging weights `[T, S]` for the last `t` of `s` positions: the row of the n-th position is 1/n over the first
/// n positions and 0 after them.
pub fn averaging_weights(t: i32, s: i32) -> Result<Array> {
    let row = ops::arange::<_, i32>(s - t, s, None)?.reshape(&[t, 1])?; // [T, 1], positions from zero
    let column = ops::arange::<_, i32>(None, s, None)?; // [S]
    let past = ops::le(&column, &row)?.as_dtype(Dtype::Float32)?; // [T, S], ones and zeros
    let count = row.as_dtype(Dtype::Float32)?.add(Array::from_f32(1.0))?; // [T, 1]
    past.divide(count)
}
// ANCHOR_END: weights

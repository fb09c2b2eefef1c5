//! Day 4: self-attention: each token chooses which earlier tokens to attend to.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops};

use super::day03::{Weights, causal_mask};

// ANCHOR: linear
/// A linear layer: x `[…, C]` times `{name}.weight` `[C, D]`, plus `{name}.bias` `[D]`, to `[…, D]`.
///
/// # Exercise
/// `weights[&format!("{name}.weight")]` is an array; `matmul`, `add`. MLX adds the bias to each row.
pub fn linear(x: &Array, weights: &Weights, name: &str) -> Result<Array> {
    let product = x.matmul(&weights[&format!("{name}.weight")])?;
    product.add(&weights[&format!("{name}.bias")])
}
// ANCHOR_END: linear

// ANCHOR: scores
/// Attention scores q · k / √D of every query with every key: `[…, T, D]` and `[…, S, D]` to `[…, T, S]`.
///
/// # Exercise
/// A product with the keys' last two axes swapped, and a division by the root of the head size, which is the last axis:
/// `swap_axes(-1, -2)`, `matmul`, `dim(-1)`, `Array::from_f32`, `divide`.
pub fn scores(queries: &Array, keys: &Array) -> Result<Array> {
    let products = queries.matmul(keys.swap_axes(-1, -2)?)?;
    let head_size = queries.dim(-1) as f32;
    products.divide(Array::from_f32(head_size.sqrt()))
}
// ANCHOR_END: scores

// ANCHOR: weights
/// Attention weights: scores `[…, T, S]` to weights that are 0 where `mask` `[T, S]` is true and add up to 1 in each row.
///
/// # Exercise
/// Minus infinity where the mask is true, then a softmax over the keys, which are the last axis: `ops::select(mask, a, b)`,
/// `Array::from_f32(f32::NEG_INFINITY)`, `ops::softmax_axis(…, -1, true)`.
pub fn attention_weights(scores: &Array, mask: Option<&Array>) -> Result<Array> {
    let masked = match mask {
        Some(mask) => ops::select(mask, Array::from_f32(f32::NEG_INFINITY), scores)?,
        None => scores.clone(),
    };
    ops::softmax_axis(&masked, -1, true)
}
// ANCHOR_END: weights

// ANCHOR: project
/// Queries, keys and values of x `[B, T, C]`, each `[B, T, C]`: the three parts of the linear layer `{name}.c_attn`.
///
/// # Exercise
/// One linear layer, to `[B, T, 3C]`, split into three along the last axis: `linear`, `split_equal(3, -1)`.
pub fn queries_keys_values(x: &Array, weights: &Weights, name: &str) -> Result<[Array; 3]> {
    let all = linear(x, weights, &format!("{name}.c_attn"))?; // [B, T, 3C]
    let parts = all.split_equal(3, -1)?;
    Ok([parts[0].clone(), parts[1].clone(), parts[2].clone()])
}
// ANCHOR_END: project

// ANCHOR: head
/// A head of causal self-attention: x `[B, T, C]` to `[B, T, C]`, with the linear layers `{name}.c_attn` and `{name}.c_proj`.
///
/// # Exercise
/// Queries, keys and values; scores; weights, with the mask of day 3; the values' sums by the weights; the last linear layer.
pub fn one_head(x: &Array, weights: &Weights, name: &str) -> Result<Array> {
    let [q, k, v] = queries_keys_values(x, weights, name)?;
    let mask = causal_mask(x.dim(1))?; // [T, T]
    let attention = attention_weights(&scores(&q, &k)?, Some(&mask))?; // [B, T, T]
    linear(&attention.matmul(&v)?, weights, &format!("{name}.c_proj")) // [B, T, C]
}
// ANCHOR_END: head

//! Day 5: many heads of attention: in a loop, then all of them as one more axis.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops};

use super::day03::{Weights, causal_mask};
use super::day04::{attention_weights, linear, queries_keys_values, scores};

// ANCHOR: loop
/// Attention of queries, keys and values, each `[B, T, C]`, one head after the other: to `[B, T, C]`.
///
/// # Exercise
/// Split each of the three into `heads` parts along the last axis, attend with each as on day 4, and put the results side by
/// side: `split_equal(heads, -1)`, `ops::concatenate(&gathered, -1)`.
pub fn heads_by_loop([q, k, v]: &[Array; 3], heads: i32) -> Result<Array> {
    let mask = causal_mask(q.dim(1))?; // [T, T]
    let parts = |x: &Array| x.split_equal(heads, -1); // H × [B, T, D]
    let mut gathered = Vec::new();
    for ((q, k), v) in parts(q)?.iter().zip(parts(k)?).zip(parts(v)?) {
        let weights = attention_weights(&scores(q, &k)?, Some(&mask))?; // [B, T, T]
        gathered.push(weights.matmul(&v)?); // [B, T, D]
    }
    ops::concatenate(&gathered, -1) // [B, T, C]
}
// ANCHOR_END: loop

// ANCHOR: split
/// Heads as an axis before the tokens: `[B, T, C]` to `[B, H, T, D]`.
///
/// # Exercise
/// First divide the last axis into H heads of D, then let heads and tokens change places: `reshape`, `transpose_axes`. A
/// `reshape` alone would mix tokens and heads.
pub fn split_heads(x: &Array, heads: i32) -> Result<Array> {
    let [b, t, c] = [x.dim(0), x.dim(1), x.dim(2)];
    x.reshape(&[b, t, heads, c / heads])? // [B, T, H, D]
        .transpose_axes(&[0, 2, 1, 3]) // [B, H, T, D]
}

/// The opposite: `[B, H, T, D]` to `[B, T, C]`.
///
/// # Exercise
/// The two steps of `split_heads` undone, the last one first.
pub fn merge_heads(x: &Array) -> Result<Array> {
    let [b, h, t, d] = [x.dim(0), x.dim(1), x.dim(2), x.dim(3)];
    x.transpose_axes(&[0, 2, 1, 3])?.reshape(&[b, t, h * d])
}
// ANCHOR_END: split

// ANCHOR: at_once
/// Multi-head causal self-attention: x `[B, T, C]` to `[B, T, C]`, with the layers `{name}.c_attn` and `{name}.c_proj`.
///
/// # Exercise
/// Day 4's `one_head`, with heads as an axis: split queries, keys and values, attend, merge. Nothing else changes.
pub fn multi_head_attention(x: &Array, weights: &Weights, name: &str, heads: i32) -> Result<Array> {
    let [q, k, v] = queries_keys_values(x, weights, name)?;
    let (q, k, v) = (
        split_heads(&q, heads)?,
        split_heads(&k, heads)?,
        split_heads(&v, heads)?,
    );
    let mask = causal_mask(x.dim(1))?; // [T, T]
    let attention = attention_weights(&scores(&q, &k)?, Some(&mask))?; // [B, H, T, T]
    let gathered = merge_heads(&attention.matmul(&v)?)?; // [B, T, C]
    linear(&gathered, weights, &format!("{name}.c_proj"))
}
// ANCHOR_END: at_once

//! Day 3: tokens as vectors, and the mean of the past.

use std::collections::BTreeMap;

use mlx_rs::error::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype, ops};

/// A model's arrays by their names, which are GPT-2's.
pub type Weights = BTreeMap<String, Array>;

// ANCHOR: one_hot
/// One-hot vectors: ids `[…, T]` to `[…, T, V]`, 1 at the token's id and 0 elsewhere.
///
/// # Exercise
/// Compare each id with all ids, 0 to V - 1, which `ops::arange::<_, u32>(None, vocab_size, None)` gives: `expand_dims(-1)`,
/// `ops::eq`, `as_dtype(Dtype::Float32)`. Ids are uint32.
pub fn one_hot(ids: &Array, vocab_size: i32) -> Result<Array> {
    let every_id = ops::arange::<_, u32>(None, vocab_size, None)?; // [V]
    ops::eq(ids.expand_dims(-1)?, &every_id)?.as_dtype(Dtype::Float32)
}
// ANCHOR_END: one_hot

// ANCHOR: embed
/// Embeds tokens: ids `[B, T]` to vectors `[B, T, C]`, the sum of a token's row of `wte.weight` `[V, C]` and its position's
/// row of `wpe.weight` `[context, C]`. The first token has position `start`, which is 0 until day 9.
///
/// # Exercise
/// A lookup, a slice and a sum: `take_axis(ids, 0)`, `try_index(from..to)`, `add`. MLX adds the positions `[T, C]` to each row
/// of the batch.
pub fn embed(ids: &Array, weights: &Weights, start: i32) -> Result<Array> {
    let tokens = weights["wte.weight"].take_axis(ids, 0)?; // [B, T, C]
    let positions = weights["wpe.weight"].try_index(start..start + ids.dim(1))?; // [T, C]
    tokens.add(positions)
}
// ANCHOR_END: embed

// ANCHOR: loop
/// The mean of each vector and all before it, position by position: `[B, T, C]` to `[B, T, C]`.
///
/// # Exercise
/// For each position, the mean over the positions up to it: `try_index((.., ..count))`, `mean_axis(1, true)`,
/// `ops::concatenate(&means, 1)`.
pub fn mean_by_loop(x: &Array) -> Result<Array> {
    let mut means = Vec::new();
    for count in 1..=x.dim(1) {
        means.push(x.try_index((.., ..count))?.mean_axis(1, true)?); // [B, 1, C]
    }
    ops::concatenate(&means, 1)
}
// ANCHOR_END: loop

// ANCHOR: matrix
/// The weights of the mean as a matrix `[T, T]`: row n, counted from 1, is 1/n in its first n columns and 0 after them.
///
/// # Exercise
/// Which columns come before which rows, and how many: `ops::arange::<_, i32>(None, tokens, None)` are the positions;
/// `expand_dims(-1)`, `ops::le`, `as_dtype`, `divide`, `Array::from_f32`.
pub fn mean_weights(tokens: i32) -> Result<Array> {
    let position = ops::arange::<_, i32>(None, tokens, None)?; // [T]
    let row = position.expand_dims(-1)?; // [T, 1]
    let past = ops::le(&position, &row)?.as_dtype(Dtype::Float32)?; // [T, T], ones and zeros
    past.divide(row.as_dtype(Dtype::Float32)?.add(Array::from_f32(1.0))?)
}
// ANCHOR_END: matrix

// ANCHOR: mask
/// The causal mask `[T, T]`: true where a column's token comes after the row's, in the future.
///
/// # Exercise
/// Compare each row's position with each column's: `ops::arange::<_, i32>(None, tokens, None)`, `expand_dims(-1)`, `ops::lt`.
pub fn causal_mask(tokens: i32) -> Result<Array> {
    let position = ops::arange::<_, i32>(None, tokens, None)?; // [T]
    ops::lt(position.expand_dims(-1)?, &position)
}
// ANCHOR_END: mask

// ANCHOR: softmax
/// The same mean by a masked softmax: all scores are 0, those of the future minus infinity.
///
/// # Exercise
/// Scores by the mask, weights by a softmax over each row, and a matrix product: `ops::select(mask, a, b)` takes a where the mask
/// is true; `Array::from_f32(f32::NEG_INFINITY)`, `ops::softmax_axis(…, -1, true)`, `matmul`.
pub fn mean_by_softmax(x: &Array) -> Result<Array> {
    let minus_infinity = Array::from_f32(f32::NEG_INFINITY);
    let scores = ops::select(causal_mask(x.dim(1))?, minus_infinity, Array::from_f32(0.0))?; // [T, T]
    let weights = ops::softmax_axis(&scores, -1, true)?; // [T, T]
    weights.matmul(x)
}
// ANCHOR_END: softmax

//! Day 6: the transformer block: the MLP, residual connections, layer norm, dropout.

use std::f32::consts::PI;

use mlx_rs::error::Result;
use mlx_rs::{Array, ops, random};

use super::day03::Weights;
use super::day04::linear;
use super::day05::multi_head_attention;

// ANCHOR: gelu
/// GELU, number by number: `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`, any shape.
///
/// # Exercise
/// The formula from the inside out: `square`, `multiply`, `add`, `ops::tanh`, `Array::from_f32`.
pub fn gelu(x: &Array) -> Result<Array> {
    let number = Array::from_f32;
    let cube = x.square()?.multiply(x)?;
    let sum = x.add(cube.multiply(number(0.044715))?)?;
    let tanh = ops::tanh(sum.multiply(number((2.0 / PI).sqrt()))?)?; // -1 to 1
    x.multiply(number(0.5))?.multiply(tanh.add(number(1.0))?)
}
// ANCHOR_END: gelu

// ANCHOR: mlp
/// The MLP: x `[B, T, C]` to `[B, T, C]`, with the layers `{name}.c_fc`, to 4C channels, and `{name}.c_proj`, back to C.
///
/// # Exercise
/// A linear layer, GELU, another linear layer.
pub fn mlp(x: &Array, weights: &Weights, name: &str) -> Result<Array> {
    let wide = linear(x, weights, &format!("{name}.c_fc"))?; // [B, T, 4C]
    linear(&gelu(&wide)?, weights, &format!("{name}.c_proj")) // [B, T, C]
}
// ANCHOR_END: mlp

// ANCHOR: block
/// A block: x `[B, T, C]` plus attention `{name}.attn` on its norm `{name}.ln_1`, then plus the MLP `{name}.mlp` on the norm
/// `{name}.ln_2` of that sum, to `[B, T, C]`.
///
/// # Exercise
/// Two similar lines: x plus a layer applied to the norm of x: `layer_norm`, `multi_head_attention`, `mlp`, `add`.
pub fn block(x: &Array, weights: &Weights, name: &str, heads: i32) -> Result<Array> {
    let normed = layer_norm(x, weights, &format!("{name}.ln_1"))?;
    let x = x.add(multi_head_attention(&normed, weights, &format!("{name}.attn"), heads)?)?;
    let normed = layer_norm(&x, weights, &format!("{name}.ln_2"))?;
    x.add(mlp(&normed, weights, &format!("{name}.mlp"))?)
}
// ANCHOR_END: block

// ANCHOR: normalize
/// Subtracts the mean over `axis` and divides by the standard deviation: `(x − mean) / √(variance + ε)` with ε = 1e-5, which
/// keeps a constant vector from a division by zero. Any shape; the variance is the mean square of what differs from the mean.
///
/// # Exercise
/// Means and variances that keep their axis, so that they fit x: `mean_axis(axis, true)`, `var_axis(axis, true, None)`,
/// `subtract`, `sqrt`, `divide`.
pub fn normalize(x: &Array, axis: i32) -> Result<Array> {
    let mean = x.mean_axis(axis, true)?;
    let variance = x.var_axis(axis, true, None)?;
    let deviation = variance.add(Array::from_f32(1e-5))?.sqrt()?;
    x.subtract(mean)?.divide(deviation)
}

/// Layer norm: each vector of x `[…, C]` normalised over its own channels, times the gain `{name}.weight` `[C]`, plus the bias
/// `{name}.bias` `[C]`, to `[…, C]`.
///
/// # Exercise
/// `normalize` over the last axis, then `multiply` and `add`.
pub fn layer_norm(x: &Array, weights: &Weights, name: &str) -> Result<Array> {
    let normed = normalize(x, -1)?;
    let scaled = normed.multiply(&weights[&format!("{name}.weight")])?;
    scaled.add(&weights[&format!("{name}.bias")])
}
// ANCHOR_END: normalize

// ANCHOR: dropout
/// Dropout: each number of x becomes 0 with probability `rate`, drawn with the random key; the others are divided by
/// 1 − rate, so that the mean is unchanged. Any shape.
///
/// # Exercise
/// A random mask of x's shape, true with probability 1 − rate, then two products: `random::bernoulli`, `x.shape()`,
/// `multiply`. MLX multiplies by true as by 1.
pub fn dropout(x: &Array, rate: f32, key: &Array) -> Result<Array> {
    let keep = random::bernoulli(&Array::from_f32(1.0 - rate), x.shape(), key)?;
    x.multiply(keep)?.multiply(Array::from_f32(1.0 / (1.0 - rate)))
}
// ANCHOR_END: dropout

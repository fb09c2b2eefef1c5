//! Day 7: GPT-2 assembled: the network, its head, its first weights, its size.

use mlx_rs::error::Result;
use mlx_rs::{Array, random};

use super::day03::{Weights, embed};
use super::day06::{block, layer_norm};

/// The size of a GPT-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub vocab_size: i32, // V
    pub context: i32,    // tokens of the longest text
    pub layers: i32,     // number of blocks
    pub heads: i32,      // of each block, H
    pub embd: i32,       // channels, C
}

// ANCHOR: gpt
/// GPT-2: ids `[B, T]`, T at most the context, to logits `[B, T, V]` of the token after each.
///
/// # Exercise
/// Embed from position 0, run the blocks `h.0`, `h.1` and so on, apply the head: `embed`, `block`, `logits`.
pub fn gpt(ids: &Array, weights: &Weights, shape: &Shape) -> Result<Array> {
    let mut x = embed(ids, weights, 0)?; // [B, T, C]
    for layer in 0..shape.layers {
        x = block(&x, weights, &format!("h.{layer}"), shape.heads)?; // [B, T, C]
    }
    logits(&x, weights) // [B, T, V]
}
// ANCHOR_END: gpt

// ANCHOR: head
/// The tied head: x `[…, C]` to logits `[…, V]`, the dot products of the norm `ln_f` of x with the rows of `wte.weight`
/// `[V, C]`.
///
/// # Exercise
/// One last norm, then a product with the table on its side: `layer_norm`, `transpose`, `matmul`.
pub fn logits(x: &Array, weights: &Weights) -> Result<Array> {
    let normed = layer_norm(x, weights, "ln_f")?; // […, C]
    normed.matmul(weights["wte.weight"].transpose()?)
}
// ANCHOR_END: head

/// Names and shapes of a GPT-2's arrays. A linear layer's weight is `[in, out]`.
pub fn array_shapes(shape: &Shape) -> Vec<(String, Vec<i32>)> {
    let [v, t, c] = [shape.vocab_size, shape.context, shape.embd];
    let mut arrays = vec![("wte.weight".into(), vec![v, c]), ("wpe.weight".into(), vec![t, c])];
    let mut add = |layer: String, axes: &[i32]| {
        arrays.push((format!("{layer}.weight"), axes.to_vec()));
        arrays.push((format!("{layer}.bias"), axes[axes.len() - 1..].to_vec()));
    };
    for block in 0..shape.layers {
        for norm in ["ln_1", "ln_2"] {
            add(format!("h.{block}.{norm}"), &[c]);
        }
        add(format!("h.{block}.attn.c_attn"), &[c, 3 * c]);
        add(format!("h.{block}.attn.c_proj"), &[c, c]);
        add(format!("h.{block}.mlp.c_fc"), &[c, 4 * c]);
        add(format!("h.{block}.mlp.c_proj"), &[4 * c, c]);
    }
    add("ln_f".into(), &[c]);
    arrays
}

// ANCHOR: initialize
/// Weights before training, drawn with a random key: biases 0, gains of norms 1, matrices and tables normal with standard
/// deviation 0.02, but 0.02 / √(2 · layers) where the output is added to the stream, in `attn.c_proj` and `mlp.c_proj`.
///
/// # Exercise
/// Go through `array_shapes(shape)`; names and numbers of axes tell the four cases apart: `Array::zeros::<f32>`,
/// `Array::ones::<f32>`, `random::normal::<f32>(shape, None, std, &key)`, with a new key from `RandomState::next_key` each time.
pub fn initialize(shape: &Shape, key: &Array) -> Result<Weights> {
    let residual = 0.02 / (2.0 * shape.layers as f32).sqrt();
    let mut keys = random::RandomState::from_key(key.clone());
    let mut weights = Weights::new();
    for (name, axes) in array_shapes(shape) {
        let array = if name.ends_with("bias") {
            Array::zeros::<f32>(&axes)?
        } else if axes.len() == 1 {
            Array::ones::<f32>(&axes)?
        } else {
            let std = if name.ends_with("c_proj.weight") {
                residual
            } else {
                0.02
            };
            random::normal::<f32>(&axes, None, std, &keys.next_key()?)?
        };
        weights.insert(name, array);
    }
    Ok(weights)
}
// ANCHOR_END: initialize

// ANCHOR: count
/// The number of parameters, counted on paper.
///
/// # Exercise
/// No arrays, only arithmetic with V, T, L and C. The head has none of its own.
pub fn parameter_count(shape: &Shape) -> i64 {
    let [v, t, l, c] = [shape.vocab_size, shape.context, shape.layers, shape.embd].map(i64::from);
    let norm = c + c; // a gain and a bias for each channel
    let attention = (c * 3 * c + 3 * c) + (c * c + c); // c_attn, c_proj
    let mlp = (c * 4 * c + 4 * c) + (4 * c * c + c); // c_fc, c_proj
    let block = norm + attention + norm + mlp;
    v * c + t * c + l * block + norm // wte, wpe, blocks, ln_f; the head is wte
}
// ANCHOR_END: count

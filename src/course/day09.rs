//! Day 9: from logits to text: temperature, filters, the key-value cache, the loop.

use mlx_rs::error::{ConversionError, Result};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

use super::day03::{Weights, causal_mask, embed};
use super::day04::{attention_weights, linear, queries_keys_values, scores};
use super::day05::{merge_heads, split_heads};
use super::day06::{layer_norm, mlp};
use super::day07::{self, Shape};

// ANCHOR: softmax
/// Probabilities of logits `[V]`: e to the logit, divided by the sum of all of these.
///
/// # Exercise
/// Subtract the largest logit first, so that `exp` can't overflow; the result is the same. Minus infinity becomes 0.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let total: f32 = powers.iter().sum();
    powers.iter().map(|power| power / total).collect()
}

/// Logits `[V]` at temperature t, above 0: each divided by t.
///
/// # Exercise
/// `iter`, `map`, `collect`. The order of the tokens stays the same.
pub fn temperature(logits: &[f32], t: f32) -> Vec<f32> {
    logits.iter().map(|logit| logit / t).collect()
}
// ANCHOR_END: softmax

// ANCHOR: filters
/// All ids, the most likely first; of equally likely ones, the lower first.
pub fn ranked(logits: &[f32]) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    ids
}

/// The logits of the ids in `kept`; those of all others are minus infinity.
pub fn keep(logits: &[f32], kept: &[usize]) -> Vec<f32> {
    let mut only = vec![f32::NEG_INFINITY; logits.len()];
    kept.iter().for_each(|&id| only[id] = logits[id]);
    only
}

/// Keeps the k most likely tokens: logits `[V]` to logits `[V]`.
///
/// # Exercise
/// `ranked` and `keep`. There may be fewer than k.
pub fn top_k(logits: &[f32], k: usize) -> Vec<f32> {
    keep(logits, &ranked(logits)[..k.min(logits.len())])
}

/// Keeps the fewest tokens, the most likely first, whose probabilities add up to p or more: logits `[V]` to logits `[V]`.
///
/// # Exercise
/// `softmax`, `ranked` and `keep`. The token with which the sum reaches p is kept.
pub fn top_p(logits: &[f32], p: f32) -> Vec<f32> {
    let (probabilities, ranked) = (softmax(logits), ranked(logits));
    let (mut sum, mut count) = (0.0, 0);
    while sum < p && count < ranked.len() {
        sum += probabilities[ranked[count]];
        count += 1;
    }
    keep(logits, &ranked[..count])
}

/// Keeps the tokens that are at least p times as likely as the most likely one: logits `[V]` to logits `[V]`.
///
/// # Exercise
/// `softmax`, and `keep` with the ids that pass.
pub fn min_p(logits: &[f32], p: f32) -> Vec<f32> {
    let probabilities = softmax(logits);
    let largest = probabilities.iter().copied().fold(0.0, f32::max);
    let likely = (0..logits.len()).filter(|&id| probabilities[id] >= p * largest);
    keep(logits, &likely.collect::<Vec<_>>())
}
// ANCHOR_END: filters

// ANCHOR: penalty
/// Logits `[V]` with those of the ids in `seen` made smaller, once each: positive ones divided by the penalty, negative ones
/// multiplied by it.
///
/// # Exercise
/// Change a copy, from the original logits, so that an id that was seen twice isn't changed twice.
pub fn repetition_penalty(logits: &[f32], seen: &[u32], penalty: f32) -> Vec<f32> {
    let mut changed = logits.to_vec();
    for &id in seen {
        let logit = logits[id as usize];
        changed[id as usize] = if logit > 0.0 { logit / penalty } else { logit * penalty };
    }
    changed
}
// ANCHOR_END: penalty

// ANCHOR: cache
/// Keys and values of all S tokens so far in one layer, `[B, H, S, D]` each; none before the first token.
pub type LayerCache = Option<[Array; 2]>;

/// The caches of all layers.
pub struct Cache(pub Vec<LayerCache>);

impl Cache {
    /// An empty cache of that many layers.
    pub fn new(layers: i32) -> Self {
        Self((0..layers).map(|_| None).collect())
    }

    /// The number of tokens in it, S.
    pub fn tokens(&self) -> i32 {
        self.0[0].as_ref().map_or(0, |[keys, _]| keys.dim(2))
    }
}
// ANCHOR_END: cache

// ANCHOR: attention
/// Day 5's attention of T new tokens x `[B, T, C]` to themselves and the tokens in the cache, whose keys and values it appends to
/// the cache: to `[B, T, C]`.
///
/// # Exercise
/// Queries are those of the new tokens alone, `[B, H, T, D]`; keys and values are put after those of the cache,
/// `[B, H, S, D]`: `ops::concatenate(&[old, new], 2)`. Of the mask of all S tokens only the last T rows are needed.
pub fn attention_with_cache(
    x: &Array,
    weights: &Weights,
    name: &str,
    heads: i32,
    cache: &mut LayerCache,
) -> Result<Array> {
    let [q, k, v] = queries_keys_values(x, weights, name)?;
    let q = split_heads(&q, heads)?; // [B, H, T, D]
    let (mut k, mut v) = (split_heads(&k, heads)?, split_heads(&v, heads)?);
    if let Some([keys, values]) = cache {
        k = ops::concatenate(&[&*keys, &k], 2)?; // [B, H, S, D]
        v = ops::concatenate(&[&*values, &v], 2)?;
    }
    let (t, s) = (x.dim(1), k.dim(2));
    let mask = causal_mask(s)?.try_index(s - t..)?; // [T, S]
    let attention = attention_weights(&scores(&q, &k)?, Some(&mask))?; // [B, H, T, S]
    let gathered = merge_heads(&attention.matmul(&v)?)?; // [B, T, C]
    *cache = Some([k, v]);
    linear(&gathered, weights, &format!("{name}.c_proj"))
}
// ANCHOR_END: attention

// ANCHOR: gpt
/// Day 7's GPT for new tokens after those in the cache: ids `[B, T]` to logits `[B, T, V]`.
///
/// # Exercise
/// Positions go on where the cache ends: `embed` takes the first one. Then the blocks of day 6, with `attention_with_cache`, and
/// the head, `day07::logits`.
pub fn gpt_with_cache(ids: &Array, weights: &Weights, shape: &Shape, cache: &mut Cache) -> Result<Array> {
    let mut x = embed(ids, weights, cache.tokens())?; // [B, T, C]
    for (layer, cache) in cache.0.iter_mut().enumerate() {
        let name = |part: &str| format!("h.{layer}.{part}");
        let normed = layer_norm(&x, weights, &name("ln_1"))?;
        let attended = attention_with_cache(&normed, weights, &name("attn"), shape.heads, cache)?;
        x = x.add(attended)?;
        let normed = layer_norm(&x, weights, &name("ln_2"))?;
        x = x.add(mlp(&normed, weights, &name("mlp"))?)?;
    }
    day07::logits(&x, weights)
}
// ANCHOR_END: gpt

// ANCHOR: bytes
/// Bytes of a full cache for one text: a key and a value of C numbers of four bytes, for each token of the context, in each
/// layer.
///
/// # Exercise
/// A product, as `usize`: GPT-2's largest size has some hundred million bytes.
pub fn cache_bytes(shape: &Shape) -> usize {
    let [c, t, l] = [shape.embd, shape.context, shape.layers].map(|n| n as usize);
    2 * c * 4 * t * l
}
// ANCHOR_END: bytes

// ANCHOR: push
/// Adds a token to those that the model looks at, which are at most `context`. If they were as many already, drops all but
/// their last half first, and returns true: the others have other positions now, so the cache is of no use.
///
/// # Exercise
/// Of an odd number, the half is rounded down: `drain(..count)` removes the first `count`.
pub fn push(window: &mut Vec<u32>, id: u32, context: usize) -> bool {
    let full = window.len() == context;
    if full {
        window.drain(..context - context / 2);
    }
    window.push(id);
    full
}
// ANCHOR_END: push

// ANCHOR: generate
/// The next tokens after a prompt of one or more. `choose` chooses each by its logits `[V]` and the tokens that the model looks
/// at.
///
/// # Exercise
/// Push the prompt, then for each new token: give `gpt_with_cache` the tokens of the window that are not in the cache, take the
/// last one's logits, choose, push. Where `push` is true, begin a new cache. `try_index((0, -1))`, `to_vec_exact`.
pub fn generate(
    prompt: &[u32],
    tokens: usize,
    weights: &Weights,
    shape: &Shape,
    choose: &mut dyn FnMut(&[f32], &[u32]) -> u32,
) -> std::result::Result<Vec<u32>, ConversionError> {
    let (mut window, mut cache) = (Vec::new(), Cache::new(shape.layers));
    for &id in prompt {
        push(&mut window, id, shape.context as usize);
    }
    let mut generated = Vec::new();
    while generated.len() < tokens {
        let new = &window[cache.tokens() as usize..];
        let ids = Array::from_slice(new, &[1, new.len() as i32]); // [1, T]
        let logits = gpt_with_cache(&ids, weights, shape, &mut cache)?.try_index((0, -1))?; // [V]
        let id = choose(&logits.to_vec_exact()?, &window);
        generated.push(id);
        if push(&mut window, id, shape.context as usize) {
            cache = Cache::new(shape.layers);
        }
    }
    Ok(generated)
}
// ANCHOR_END: generate

// ANCHOR: moved
/// How far training has moved each row of a table, before and after it `[V, C]`: the lengths of the differences, `[V]`.
///
/// # Exercise
/// The square root of the sum of squares, over the last axis: `subtract`, `square`, `sum_axis(-1, false)`, `sqrt`.
pub fn moved(before: &Array, after: &Array) -> Result<Array> {
    after.subtract(before)?.square()?.sum_axis(-1, false)?.sqrt() // [V]
}
// ANCHOR_END: moved

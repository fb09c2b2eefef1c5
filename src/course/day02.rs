//! Day 2: batches of examples, a loss, and the smallest language model.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops::indexing::take_along_axis;

// ANCHOR: split
/// The first nine tenths of a text's tokens, rounded down, to train on, and the rest, to evaluate with.
///
/// # Exercise
/// `split_at` cuts a slice in two.
pub fn split(ids: &[u32]) -> (&[u32], &[u32]) {
    ids.split_at(ids.len() * 9 / 10)
}
// ANCHOR_END: split

// ANCHOR: get_batch
/// A batch of `tokens`: inputs `[B, T]` and targets `[B, T]`, both uint32. A row of the inputs begins at each of the B
/// `starts` and has T = `context` tokens; a target is the token after its input.
///
/// # Exercise
/// The rows of the targets begin one token later. `concat()` joins a `Vec` of slices; `Array::from_slice(&ids, &[rows, columns])`
/// makes an array of them.
pub fn get_batch(tokens: &[u32], starts: &[usize], context: usize) -> (Array, Array) {
    let batch = |shift: usize| {
        let rows = starts.iter().map(|start| &tokens[start + shift..][..context]);
        let ids = rows.collect::<Vec<_>>().concat();
        Array::from_slice(&ids, &[starts.len() as i32, context as i32]) // [B, T]
    };
    (batch(0), batch(1))
}
// ANCHOR_END: get_batch

// ANCHOR: bigram_logits
/// The logits of the token after each of `ids` `[B, T]`: that token's row of `table` `[V, V]`, to `[B, T, V]`.
///
/// # Exercise
/// A lookup: `take_axis(ids, 0)`.
pub fn bigram_logits(table: &Array, ids: &Array) -> Result<Array> {
    table.take_axis(ids, 0)
}
// ANCHOR_END: bigram_logits

// ANCHOR: cross_entropy
/// The mean of −log softmax(logits) at the targets, in nats: logits `[…, V]` and targets `[…]` to a scalar.
///
/// # Exercise
/// −log softmax at a target is the `logsumexp_axis(-1, false)` of its logits, minus the target's own logit:
/// `take_along_axis(logits, targets.expand_dims(-1)?, -1)`, `squeeze_axes(&[-1])`, `subtract`, `mean(None)`.
pub fn cross_entropy(logits: &Array, targets: &Array) -> Result<Array> {
    let at_target = take_along_axis(logits, targets.expand_dims(-1)?, -1)?; // […, 1]
    let losses = logits
        .logsumexp_axis(-1, false)?
        .subtract(at_target.squeeze_axes(&[-1])?)?; // […]
    losses.mean(None)
}
// ANCHOR_END: cross_entropy

// ANCHOR: sample
/// A token drawn with these `probabilities` `[V]`: the first one up to which they add up to more than `uniform`, a random
/// number from 0 up to 1.
///
/// # Exercise
/// Add up the probabilities one by one until the sum exceeds `uniform`. Rounding may keep the whole sum just below it: then
/// take the last token.
pub fn sample(probabilities: &[f32], uniform: f32) -> u32 {
    let mut sum = 0.0;
    for (id, probability) in (0..).zip(probabilities) {
        sum += probability;
        if sum > uniform {
            return id;
        }
    }
    probabilities.len() as u32 - 1
}
// ANCHOR_END: sample

// ANCHOR: count_bigrams
/// A table `[V, V]` without training: the logarithm of how often each token follows each in `tokens`, plus one.
///
/// # Exercise
/// Count in a `Vec` of V·V ones, row after row; row and column are `tokens.windows(2)`. Then take the logarithms: `f32::ln`.
pub fn count_bigrams(tokens: &[u32], vocab_size: i32) -> Array {
    let columns = vocab_size as usize;
    let mut counts = vec![1.0f32; columns * columns];
    for pair in tokens.windows(2) {
        counts[pair[0] as usize * columns + pair[1] as usize] += 1.0;
    }
    let logits: Vec<f32> = counts.into_iter().map(f32::ln).collect();
    Array::from_slice(&logits, &[vocab_size, vocab_size])
}
// ANCHOR_END: count_bigrams

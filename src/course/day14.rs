//! Day 14: losses of preferences and rewards.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops;
use mlx_rs::ops::indexing::TryIndexOp;

// ANCHOR: advantages
/// How much better each answer is than its group: its reward less the mean of the group, in standard deviations of the group (of a
/// sample: with n − 1) plus 0.0001.
///
/// # Exercise
/// Mean, then the sum of the squared differences from it, divided by n − 1, and its root. Equal rewards have no deviation; what is added
/// to it keeps their advantages at 0.
pub fn advantages(rewards: &[f32]) -> Vec<f32> {
    let count = rewards.len() as f32;
    let mean = rewards.iter().sum::<f32>() / count;
    let squares: f32 = rewards.iter().map(|reward| (reward - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    let advantage = |reward| (reward - mean) / (deviation + 1e-4);
    rewards.iter().map(advantage).collect()
}
// ANCHOR_END: advantages

// ANCHOR: kl_k3
/// Schulman's estimate of the KL divergence from a reference model, for each token: from the log-probabilities that both models give
/// it, of any shape. It is π_ref/π − log(π_ref/π) − 1, at least 0.
///
/// # Exercise
/// The log-ratio is a difference of log-probabilities, and the ratio its `exp`. The reference model's probability is above.
pub fn kl_k3(logprobs: &Array, reference: &Array) -> Result<Array> {
    let log_ratio = reference.subtract(logprobs)?;
    log_ratio.exp()?.subtract(log_ratio)?.subtract(Array::from_f32(1.0))
}
// ANCHOR_END: kl_k3

// ANCHOR: grpo_loss
/// GRPO's loss of sampled answers, a row each: log-probabilities of their tokens now, `old` ones when they were sampled, and those of the
/// `reference` model, all `[N, T]`; `mask` is 1 at an answer's tokens and 0 elsewhere; `advantages` are `[N, 1]`. A scalar.
pub fn grpo_loss(
    logprobs: &Array,
    [old, reference]: [&Array; 2],
    mask: &Array,
    advantages: &Array,
    clip_range: f32,
    kl_coef: f32,
) -> Result<Array> {
    let ratio = logprobs.subtract(old)?.exp()?;
    let [low, high] = [1.0 - clip_range, 1.0 + clip_range].map(Array::from_f32);
    let clipped = ops::minimum(ops::maximum(&ratio, &low)?, &high)?;
    let gain = ops::minimum(ratio.multiply(advantages)?, clipped.multiply(advantages)?)?;
    let kl = kl_k3(logprobs, reference)?;
    let tokens = gain.subtract(kl.multiply(Array::from_f32(kl_coef))?)?; // [N, T]
    let answers = tokens
        .multiply(mask)?
        .sum_axis(-1, false)?
        .divide(mask.sum_axis(-1, false)?)?; // [N]
    answers.mean(None)?.negative()
}
// ANCHOR_END: grpo_loss

// ANCHOR: dpo_loss
/// DPO's loss of pairs: log-probabilities of the chosen and the rejected answers, `[N, 2]`, under the model and under the reference
/// model. The mean of −log σ(reward of the chosen − reward of the rejected), where a reward is `beta` times the log-ratio of the
/// two models. A scalar.
///
/// # Exercise
/// Log-ratios are `logprobs` − `reference`; take their columns with `try_index((.., 0))`. −log σ(x) is log(1 + exp(−x)), which
/// `ops::logaddexp` of 0 and −x computes without overflow.
pub fn dpo_loss(logprobs: &Array, reference: &Array, beta: f32) -> Result<Array> {
    let rewards = logprobs.subtract(reference)?.multiply(Array::from_f32(beta))?; // [N, 2]
    let margins = rewards.try_index((.., 0))?.subtract(rewards.try_index((.., 1))?)?; // [N]
    ops::logaddexp(Array::from_f32(0.0), margins.negative()?)?.mean(None)
}
// ANCHOR_END: dpo_loss

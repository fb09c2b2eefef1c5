//! Group-relative policy optimisation (Shao et al. 2024, "DeepSeekMath", equations 3 and 4):
//!
//! ```text
//! loss = - mean over answers of (1/|o| · sum over its tokens of (min(ratio · A, clip(ratio, 1 - ε, 1 + ε) · A) - β · kl))
//! ratio = π(token) / π_old(token)
//! kl = π_ref(token) / π(token) - log(π_ref(token) / π(token)) - 1
//! ```

use mlx_rs::error::Result;
use mlx_rs::{Array, ops};

use super::part;
use crate::compute::compiled::array_tree;

/// What the loss of sampled answers depends on, a row each.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpoRows {
    /// A of each answer, `[rows]`.
    pub advantages: Vec<f32>,
    /// Log-probabilities of the tokens when they were sampled, `[rows, T]`, and 0 where there is no token.
    pub old_logprobs: Vec<f32>,
    /// Under the reference model.
    pub reference_logprobs: Vec<f32>,
    /// What each token adds to the loss: 1 / (its answer's tokens · the step's answers), and 0 where there is none.
    pub token_weights: Vec<f32>,
}

/// The same as inputs of a compiled function.
pub struct GrpoArrays {
    /// `[rows, 1]`.
    advantages: Array,
    /// `[rows, T]`, as the others.
    old_logprobs: Array,
    reference_logprobs: Array,
    token_weights: Array,
}

array_tree! {
    GrpoArrays { advantages, old_logprobs, reference_logprobs, token_weights }
}

/// Added to the standard deviation of a group's rewards, as by trl: equal ones have none.
const EPSILON: f32 = 1e-4;

/// The advantage of each answer over its group: its reward less the group's mean, in standard deviations of the group (of a
/// sample: with n - 1, as by trl). Zeros where all rewards are equal.
pub fn advantages(rewards: &[f32]) -> Vec<f32> {
    let count = rewards.len() as f32;
    let mean = rewards.iter().sum::<f32>() / count;
    let squares: f32 = rewards.iter().map(|reward| (reward - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    rewards
        .iter()
        .map(|reward| (reward - mean) / (deviation + EPSILON))
        .collect()
}

impl GrpoRows {
    /// Rows `[first, end)`, of `context` tokens each.
    pub fn arrays(&self, rows: [usize; 2], context: usize) -> GrpoArrays {
        GrpoArrays {
            advantages: part(&self.advantages, rows, 1),
            old_logprobs: part(&self.old_logprobs, rows, context),
            reference_logprobs: part(&self.reference_logprobs, rows, context),
            token_weights: part(&self.token_weights, rows, context),
        }
    }
}

impl GrpoArrays {
    /// The rows' part of the loss, of the mean KL divergence from the reference, in nats per token, and of the fraction of tokens
    /// whose ratio is clipped; scalars.
    pub(super) fn losses(&self, logprobs: &Array, clip_range: f32, kl_coef: f32) -> Result<Vec<Array>> {
        let [zero, one] = [0.0, 1.0].map(Array::from_f32);
        let weights = &self.token_weights;
        let is_token = weights.gt(&zero)?;
        // Where there is no token, a difference may be anything, and its exponential infinite.
        let difference = |a: &Array, b: &Array| ops::select(&is_token, a.subtract(b)?, &zero);
        let ratio = difference(logprobs, &self.old_logprobs)?.exp()?;
        let [low, high] = [1.0 - clip_range, 1.0 + clip_range].map(Array::from_f32);
        let clipped = ops::minimum(ops::maximum(&ratio, &low)?, &high)?;
        let advantages = &self.advantages;
        let gain = ops::minimum(ratio.multiply(advantages)?, clipped.multiply(advantages)?)?;
        let to_reference = difference(&self.reference_logprobs, logprobs)?;
        let kl = to_reference.exp()?.subtract(&to_reference)?.subtract(&one)?;
        let objective = gain.subtract(kl.multiply(Array::from_f32(kl_coef))?)?;
        // Tokens that are beyond the bound towards which they are pushed: these have no gradient.
        let too_high = ops::logical_and(ratio.gt(&high)?, advantages.gt(&zero)?)?;
        let too_low = ops::logical_and(ratio.lt(&low)?, advantages.lt(&zero)?)?;
        let is_clipped = ops::select(ops::logical_or(too_high, too_low)?, &one, &zero)?;
        let mean = |numbers: &Array| numbers.multiply(weights)?.sum(None);
        Ok(vec![mean(&objective)?.negative()?, mean(&kl)?, mean(&is_clipped)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_are_deviations_from_the_group() {
        let of = advantages(&[1.0, 0.0, 0.0, 0.0]);
        assert!(
            (of[0] - 0.75 / (0.5 + 1e-4)).abs() < 1e-6 && (of[1] + 0.25 / (0.5 + 1e-4)).abs() < 1e-6,
            "{of:?}"
        );
        assert_eq!(advantages(&[1.0; 4]), [0.0; 4], "no gradient where all are equal");
    }
}

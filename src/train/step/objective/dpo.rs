//! Direct preference optimisation (Rafailov et al. 2023, equation 7):
//!
//! ```text
//! loss = - mean over pairs of log σ(reward(chosen) - reward(rejected))
//! reward(answer) = β · (log π(answer) - log π_ref(answer))
//! ```

use mlx_rs::error::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

use super::part;
use crate::compute::compiled::array_tree;

/// What the loss of pairs depends on: two rows each, the chosen answer and the rejected one.
#[derive(Clone, Debug, PartialEq)]
pub struct DpoRows {
    /// Log-probabilities of the answers under the reference model, `[rows]`.
    pub reference_logprobs: Vec<f32>,
    /// 1 where a row has a target, else 0, `[rows, T]`.
    pub target_mask: Vec<f32>,
    /// 1 over the pairs of the whole step.
    pub inverse_pairs: f32,
}

/// The same as inputs of a compiled function.
pub struct DpoArrays {
    /// `[rows, 1]`.
    reference_logprobs: Array,
    /// `[rows, T]`.
    target_mask: Array,
    /// A scalar.
    inverse_pairs: Array,
}

array_tree! {
    DpoArrays { reference_logprobs, target_mask, inverse_pairs }
}

impl DpoRows {
    /// Rows `[first, end)`, of `context` tokens each.
    pub fn arrays(&self, rows: [usize; 2], context: usize) -> DpoArrays {
        DpoArrays {
            reference_logprobs: part(&self.reference_logprobs, rows, 1),
            target_mask: part(&self.target_mask, rows, context),
            inverse_pairs: Array::from_f32(self.inverse_pairs),
        }
    }
}

impl DpoArrays {
    /// The rows' part of the loss, and of the means over pairs of: the reward of the chosen answer, that of the rejected one,
    /// whether the first is higher, and the log-probabilities of both; scalars.
    pub(super) fn losses(&self, logprobs: &Array, beta: f32) -> Result<Vec<Array>> {
        let [zero, one] = [0.0, 1.0].map(Array::from_f32);
        let is_target = self.target_mask.gt(&zero)?;
        let answers = ops::select(&is_target, logprobs, &zero)?.sum_axis(-1, false)?; // [rows]
        let log_ratios = answers.subtract(self.reference_logprobs.squeeze_axes(&[-1])?)?;
        // [rows] to the [pairs] of chosen and of rejected answers.
        let of_pairs = |rows: &Array| -> Result<[Array; 2]> {
            let pairs = rows.reshape(&[-1, 2])?;
            Ok([pairs.try_index((.., 0))?, pairs.try_index((.., 1))?])
        };
        let [chosen, rejected] = of_pairs(&log_ratios.multiply(Array::from_f32(beta))?)?;
        let margin = chosen.subtract(&rejected)?;
        let losses = ops::logaddexp(&zero, margin.negative()?)?; // -log σ(margin)
        let preferred = ops::select(margin.gt(&zero)?, &one, &zero)?;
        let [chosen_logprobs, rejected_logprobs] = of_pairs(&answers)?;
        let mean = |numbers: &Array| numbers.sum(None)?.multiply(&self.inverse_pairs);
        let all = [
            &losses,
            &chosen,
            &rejected,
            &preferred,
            &chosen_logprobs,
            &rejected_logprobs,
        ];
        all.into_iter().map(mean).collect()
    }
}

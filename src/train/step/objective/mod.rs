//! Losses beside that of the next token, each a function of the log-probabilities of a row's targets: what they are computed
//! from, on the host and as arrays.

pub mod dpo;
pub mod grpo;

use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};

use crate::compute::compiled::ArrayTree;
use crate::config::Objective;
use dpo::{DpoArrays, DpoRows};
use grpo::{GrpoArrays, GrpoRows};

/// What the objective's loss of some rows depends on, beside the model.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectiveRows {
    /// Of sampled answers.
    Grpo(GrpoRows),
    /// Of preference pairs.
    Dpo(DpoRows),
}

/// The same as inputs of a compiled function.
pub enum ObjectiveArrays {
    /// Of sampled answers.
    Grpo(GrpoArrays),
    /// Of preference pairs.
    Dpo(DpoArrays),
}

impl ObjectiveRows {
    /// The rows from `first` up to, but not including, `end`, of `context` tokens each.
    pub fn arrays(&self, rows: [usize; 2], context: usize) -> ObjectiveArrays {
        match self {
            Self::Grpo(grpo) => ObjectiveArrays::Grpo(grpo.arrays(rows, context)),
            Self::Dpo(dpo) => ObjectiveArrays::Dpo(dpo.arrays(rows, context)),
        }
    }
}

impl ObjectiveArrays {
    /// The contribution of these rows to the step's loss, then to each of its terms, scalars; from the log-probabilities of their
    /// targets, `[rows, T]`, which may be any where there is no target.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn losses(&self, objective: Objective, logprobs: &Array) -> Result<Vec<Array>> {
        match (self, objective) {
            (Self::Grpo(rows), Objective::Grpo { clip_range, kl_coef }) => rows.losses(logprobs, clip_range, kl_coef),
            (Self::Dpo(rows), Objective::Dpo { beta }) => rows.losses(logprobs, beta),
            _ => Err(Exception::custom("a step was given the rows of another objective")),
        }
    }
}

impl ArrayTree for ObjectiveArrays {
    fn tree_map(&self, f: &mut impl FnMut(&Array) -> Result<Array>) -> Result<Self> {
        Ok(match self {
            Self::Grpo(rows) => Self::Grpo(rows.tree_map(f)?),
            Self::Dpo(rows) => Self::Dpo(rows.tree_map(f)?),
        })
    }
}

/// The numbers of rows `[first, end)`, of `width` numbers each.
fn part(numbers: &[f32], [first, end]: [usize; 2], width: usize) -> Array {
    Array::from_slice(
        &numbers[first * width..end * width],
        &[(end - first) as i32, width as i32],
    )
}

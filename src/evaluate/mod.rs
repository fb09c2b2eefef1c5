//! How well a model predicts: its exact loss on a text ([`text`]), and which ending of a text it finds the likeliest
//! ([`hellaswag`]).

pub mod hellaswag;
pub mod text;

use std::sync::Arc;

use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::error::{Exception, Result as MlxResult};

use crate::config::ModelConfig;
use crate::data::batches::Batch;
use crate::memory;
use crate::model::Model;
use crate::model::compiled::{Compiled, compiled};
use crate::model::loss::negative_log_likelihood;
use crate::model::parameters::{Names, Parameters};

/// Tokens that are evaluated at once: enough to keep MLX busy.
const BATCH_TOKENS: usize = 4096;

/// Bytes of a batch's logits `[B, T, V]` in float32, which with a large vocabulary are most of the memory that an
/// evaluation takes: one row of GPT-2's has 1024 · 50257 of them, 206 MB. Only a batch of a single row may have more.
const LOGITS_BYTES: usize = 256 << 20;

/// A total of losses over predicted tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evaluation {
    /// Sum of the tokens' negative log-likelihoods, in nats.
    pub nats: f64,
    pub tokens: usize,
}

impl Evaluation {
    /// Counts the negative log-likelihoods of more tokens.
    pub fn add(&mut self, losses: &[f32]) {
        self.nats += losses.iter().copied().map(f64::from).sum::<f64>();
        self.tokens += losses.len();
    }

    /// Nats per token.
    pub fn loss(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// Bits per byte, of predicted tokens that stand for `bytes` bytes of text.
    pub fn bits_per_byte(&self, bytes: u64) -> f64 {
        self.nats / std::f64::consts::LN_2 / bytes as f64
    }
}

/// Token losses of batches by a compiled forward pass, traced once for each shape of batch.
pub struct Evaluator {
    model: ModelConfig,
    forward: Compiled,
}

impl Evaluator {
    pub fn new(model: &ModelConfig, names: &Names) -> Self {
        let evaluated = model.clone();
        let (model, names) = (model.clone(), Arc::clone(names));
        let function = move |arguments: &[Array]| -> MlxResult<Vec<Array>> {
            let (parameters, [inputs, targets]) = arguments.split_at(names.len()) else {
                return Err(Exception::custom("an evaluation has two inputs beside the parameters"));
            };
            let parameters = Parameters::new(&names, parameters.to_vec())?;
            let logits = Model::new(&model, &parameters)?.forward(inputs, None)?;
            Ok(vec![negative_log_likelihood(&logits, targets)?])
        };
        Self {
            model: evaluated,
            forward: compiled(function),
        }
    }

    /// The negative log-likelihood of each target, in nats: `[B · T]`, row by row. Whoever adds thousands of them does
    /// so in float64, where the sum is as exact as its parts.
    ///
    /// # Errors
    /// A token that the vocabulary has not, rows longer than memory can hold, or an error of MLX's.
    pub fn losses(&mut self, parameters: &Parameters, batch: &Batch) -> Result<Vec<f32>> {
        batch.check(self.model.vocab_size)?;
        memory::ensure_fits(
            format_args!("an evaluation of {} row(s) of {} tokens", batch.rows, batch.context()),
            memory::of_forward(&self.model, batch.rows, batch.context()),
            "the model's context is longer than can be used here; measure shorter texts",
        )?;
        let shape = [batch.rows as i32, batch.context() as i32];
        let mut inputs = parameters.arrays().to_vec();
        inputs.push(Array::from_slice(&batch.inputs, &shape));
        inputs.push(Array::from_slice(&batch.targets, &shape));
        Ok((self.forward)(&inputs)?[0].to_vec_exact()?)
    }
}

/// Rows of `length` tokens that a batch may have, one at least.
fn batch_rows(vocab_size: usize, length: usize) -> usize {
    let tokens = BATCH_TOKENS.min(LOGITS_BYTES / (vocab_size * size_of::<f32>()));
    (tokens / length).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_stay_under_their_bound() {
        assert_eq!(batch_rows(65, 64), 64, "tokens are the bound of a small vocabulary");
        assert_eq!(batch_rows(65, 5000), 1);
        for length in [1, 10, 100, 1000, 1024] {
            assert!(batch_rows(50257, length) * length * 50257 * 4 <= LOGITS_BYTES);
        }
        assert_eq!(batch_rows(50257, 1024), 1);
    }
}

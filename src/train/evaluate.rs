//! How well a model predicts text it may not have seen.

use std::sync::Arc;

use anyhow::{Result, ensure};
use mlx_rs::Array;
use mlx_rs::error::{Exception, Result as MlxResult};

use super::compiled::{Compiled, compiled};
use crate::config::ModelConfig;
use crate::data::batches::Batch;
use crate::model::Gpt;
use crate::model::loss::negative_log_likelihood;
use crate::model::parameters::{Names, Parameters};

/// A total of losses over predicted tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evaluation {
    /// Sum of the tokens' negative log-likelihoods, in nats.
    pub nats: f64,
    pub tokens: usize,
}

impl Evaluation {
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

/// Sums losses of batches by a compiled forward pass, one per shape of batch.
pub struct Evaluator {
    vocab_size: usize,
    forward: Compiled,
}

impl Evaluator {
    pub fn new(model: &ModelConfig, names: &Names) -> Self {
        let vocab_size = model.vocab_size;
        let (model, names) = (model.clone(), Arc::clone(names));
        let function = move |arguments: &[Array]| -> MlxResult<Vec<Array>> {
            let (parameters, [inputs, targets]) = arguments.split_at(names.len()) else {
                return Err(Exception::custom("an evaluation has two inputs beside the parameters"));
            };
            let parameters = Parameters::new(&names, parameters.to_vec())?;
            let logits = Gpt::new(&model, &parameters)?.forward(inputs, None)?;
            Ok(vec![negative_log_likelihood(&logits, targets)?.sum(None)?])
        };
        Self {
            vocab_size,
            forward: compiled(function),
        }
    }

    /// The loss over `batches`; `progress` hears the tokens of each as it is done.
    ///
    /// # Errors
    /// No batches, or an error of MLX's.
    pub fn evaluate(
        &mut self,
        parameters: &Parameters,
        batches: impl Iterator<Item = Batch>,
        mut progress: impl FnMut(usize),
    ) -> Result<Evaluation> {
        let mut total = Evaluation::default();
        for batch in batches {
            batch.check(self.vocab_size)?;
            let shape = [batch.rows as i32, batch.context() as i32];
            let mut inputs = parameters.arrays().to_vec();
            inputs.push(Array::from_slice(&batch.inputs, &shape));
            inputs.push(Array::from_slice(&batch.targets, &shape));
            let sum: f32 = (self.forward)(&inputs)?[0].try_item_exact()?;
            total.nats += f64::from(sum);
            total.tokens += batch.targets.len();
            progress(batch.targets.len());
        }
        ensure!(
            total.tokens > 0,
            "there is nothing to evaluate: at least two tokens are needed"
        );
        Ok(total)
    }
}

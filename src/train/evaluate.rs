//! How well a model predicts text it may not have seen.

use std::sync::Arc;

use anyhow::{Result, ensure};
use mlx_rs::Array;
use mlx_rs::error::{Exception, Result as MlxResult};

use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::data::batches::{Batch, windows};
use crate::data::dataset::Part;
use crate::model::Gpt;
use crate::model::compiled::{Compiled, compiled};
use crate::model::loss::negative_log_likelihood;
use crate::model::parameters::{Names, Parameters};

/// Tokens that [`measure`] evaluates at once: enough to keep MLX busy, little enough for any memory.
const BATCH_TOKENS: usize = 4096;

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

/// The exact loss of a checkpoint's model on all tokens of `part`, in consecutive windows of its context; and bits per
/// byte of the text that was predicted, where its size is known. `progress` hears the tokens of each batch.
///
/// # Errors
/// Fewer than two tokens, or tokens that the model's vocabulary has not.
pub fn measure(checkpoint: &Checkpoint, part: &Part, progress: impl FnMut(usize)) -> Result<(Evaluation, Option<f64>)> {
    let context = checkpoint.model.context;
    let batches = windows(&part.tokens, (BATCH_TOKENS / context).max(1), context);
    let mut evaluator = Evaluator::new(&checkpoint.model, checkpoint.parameters.names());
    let result = evaluator.evaluate(&checkpoint.parameters, batches, progress)?;
    let bits_per_byte = part.bytes.map(|bytes| {
        let mut first = Vec::new();
        part.tokens.read(0, 1, &mut first);
        // The first token is not predicted.
        let unpredicted = checkpoint
            .tokenizer
            .token_bytes(first[0])
            .map_or(0, |bytes| bytes.len() as u64);
        result.bits_per_byte(bytes.saturating_sub(unpredicted))
    });
    Ok((result, bits_per_byte))
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

//! How well a model predicts: its exact loss on a text ([`text`]), and its choices among endings ([`hellaswag`]).

pub mod hellaswag;
pub mod text;

use std::sync::Arc;

use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::transforms::eval;

use crate::checkpoint::Checkpoint;
use crate::compute::compiled::{arrays, compiled};
use crate::compute::memory;
use crate::compute::workers::{Work, Workers};
use crate::config::Device;
use crate::config::{ModelConfig, default_threads};
use crate::data::batches::Batch;
use crate::model::Model;
use crate::model::parameters::{Names, Parameters};

/// Tokens that are evaluated at once: enough to keep MLX busy.
const BATCH_TOKENS: usize = 4096;

/// Bytes of the logits of all batches that are evaluated at once, `[B, T, V]` in float32, which with a large vocabulary are most of the memory that an
/// evaluation takes: one row of GPT-2's has 1024 · 50257 of them, 206 MB. Only batches of a single row may have more.
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

/// Token losses of batches by compiled forward passes, each traced once for each shape of batch.
pub struct Evaluator {
    model: ModelConfig,
    /// Each evaluates whole batches, so that losses depend on their number by rounding at most.
    workers: Workers<EvaluationTask, Array>,
}

struct EvaluationTask {
    parameters: Vec<Array>,
    batch: Batch,
}

/// A forward pass over a batch.
struct ForwardInputs {
    parameters: Vec<Array>,
    /// `[B, T]`.
    inputs: Array,
    /// `[B, T]`.
    targets: Array,
}

arrays! {
    ForwardInputs { parameters, inputs, targets }
}

impl Evaluator {
    /// For a model with parameters of those names, on so many CPU threads; on a GPU, one.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn new(model: &ModelConfig, names: &Names, threads: usize) -> Result<Self> {
        let (evaluated, names) = (model.clone(), Arc::clone(names));
        let make = move |_| work(evaluated.clone(), Arc::clone(&names));
        let workers = match threads {
            0 | 1 => Workers::inline(make(0)),
            _ => Workers::threads("evaluation", threads, make)?,
        };
        Ok(Self {
            model: model.clone(),
            workers,
        })
    }

    /// With a thread for each core, or one for a GPU.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let threads = default_threads(Device::current()?);
        Self::new(&checkpoint.model, checkpoint.parameters.names(), threads)
    }

    /// Rows of `length` tokens to a batch: enough to keep MLX busy, few enough for memory.
    pub fn rows(&self, length: usize) -> usize {
        batch_rows(self.model.vocab_size, length, self.batches_at_once())
    }

    /// Batches that are evaluated side by side.
    pub fn batches_at_once(&self) -> usize {
        self.workers.count()
    }

    /// The negative log-likelihood of each target, in nats: `[B · T]` of each batch, row by row. Whoever adds thousands of
    /// them does so in float64, where the sum is as exact as its parts.
    ///
    /// # Errors
    /// A token that the vocabulary has not, rows longer than memory can hold, or an error of MLX's, after which the
    /// evaluator is of no use.
    pub fn losses(
        &mut self,
        parameters: &Parameters,
        batches: impl IntoIterator<Item = Batch>,
    ) -> Result<Vec<Vec<f32>>> {
        // Streams belong to threads: workers must be handed numbers, not a graph of this thread's.
        eval(parameters.arrays())?;
        let mut batches = batches.into_iter();
        let mut losses = Vec::new();
        loop {
            let tasks: Vec<EvaluationTask> = batches
                .by_ref()
                .take(self.batches_at_once())
                .map(|batch| self.task(parameters, batch))
                .collect::<Result<_>>()?;
            if tasks.is_empty() {
                return Ok(losses);
            }
            for batch_losses in self.workers.run(tasks)? {
                losses.push(batch_losses.to_vec_exact()?);
            }
        }
    }

    fn task(&self, parameters: &Parameters, batch: Batch) -> Result<EvaluationTask> {
        batch.check(self.model.vocab_size)?;
        let (rows, length, threads) = (batch.rows, batch.context(), self.batches_at_once());
        memory::ensure_fits(
            format_args!("an evaluation of {rows} row(s) of {length} tokens on each of {threads} thread(s)"),
            memory::of_forward(&self.model, threads * rows, length),
            "the model's context is longer than can be used here; measure shorter texts",
        )?;
        Ok(EvaluationTask {
            parameters: parameters.arrays().to_vec(),
            batch,
        })
    }
}

/// The work of a worker: the losses of a batch, `[B, T]`.
fn work(model: ModelConfig, names: Names) -> Work<EvaluationTask, Array> {
    let mut forward = compiled(move |arrays: ForwardInputs| {
        let parameters = Parameters::new(&names, arrays.parameters)?;
        Model::new(&model, &parameters)?.losses(&arrays.inputs, &arrays.targets, None)
    });
    Box::new(move |EvaluationTask { parameters, batch }| {
        let shape = [batch.rows as i32, batch.context() as i32];
        forward(ForwardInputs {
            parameters,
            inputs: Array::from_slice(&batch.inputs, &shape),
            targets: Array::from_slice(&batch.targets, &shape),
        })
    })
}

/// Rows of `length` tokens that each of `at_once` batches may have, one at least.
fn batch_rows(vocab_size: usize, length: usize, at_once: usize) -> usize {
    let tokens = BATCH_TOKENS.min(LOGITS_BYTES / (vocab_size * size_of::<f32>() * at_once));
    (tokens / length).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_stay_under_their_bound() {
        assert_eq!(batch_rows(65, 64, 2), 64, "tokens are the bound of a small vocabulary");
        assert_eq!(batch_rows(65, 5000, 1), 1);
        for length in [1, 10, 100, 600, 667] {
            assert!(2 * batch_rows(50257, length, 2) * length * 50257 * 4 <= LOGITS_BYTES);
        }
        assert_eq!(batch_rows(50257, 1024, 1), 1);
    }
}

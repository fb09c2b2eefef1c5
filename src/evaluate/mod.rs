//! How well a model predicts: its exact loss on a text ([`text`]), which ending of a text it finds the likeliest
//! ([`hellaswag`]), how many problems of a task it solves ([`task`]), which of two answers it prefers ([`preferences`]), and how it
//! answers in conversations ([`chat`]).
//!
//! ```no_run
//! use mlx_gpt::checkpoint::Checkpoint;
//! use mlx_gpt::config::DEFAULT_CORPUS;
//! use mlx_gpt::data::{corpus::Split, dataset::Dataset};
//! use mlx_gpt::evaluate::text::evaluate_checkpoint;
//! use std::path::Path;
//!
//! let checkpoint = Checkpoint::load(Path::new("runs/NAME/latest"))?;
//! let part = Dataset::open(DEFAULT_CORPUS)?.tokens(&checkpoint.tokenizer, Split::Val)?;
//! let (evaluation, bits_per_byte) = evaluate_checkpoint(&checkpoint, &part, checkpoint.model.context, |_| ())?;
//! println!("{:.4} nats a token, {bits_per_byte:?} bits a byte", evaluation.loss());
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod chat;
pub mod hellaswag;
pub mod preferences;
pub mod task;
pub mod text;

use std::sync::Arc;

use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::transforms::eval;

use crate::checkpoint::Checkpoint;
use crate::compute::compiled::{array_tree, compiled};
use crate::compute::memory;
use crate::compute::workers::{Work, Workers};
use crate::config::{Device, ModelConfig, default_threads};
use crate::data::batches::{Batch, IGNORE_INDEX};
use crate::model::Model;
use crate::model::parameters::{Names, Parameters};

/// Tokens of a batch: enough to keep MLX busy.
const BATCH_TOKENS: usize = 4096;

/// Bytes of the logits of all batches that are evaluated in parallel, `[B, T, V]` in float32. With a large vocabulary they
/// are most of the memory of an evaluation: one row of GPT-2's has 1024 · 50257 of them, 206 MB. Only batches of a single row
/// may have more.
const LOGITS_BYTES: usize = 256 << 20;

/// A sum of losses over predicted tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evaluation {
    /// Sum of the tokens' negative log-likelihoods, in nats.
    pub total_nll: f64,
    /// Number of predicted tokens.
    pub tokens: usize,
}

impl Evaluation {
    /// Adds the negative log-likelihoods of more tokens, in nats.
    pub fn add(&mut self, losses: &[f32]) {
        self.total_nll += losses.iter().copied().map(f64::from).sum::<f64>();
        self.tokens += losses.len();
    }

    /// Nats per token.
    pub fn loss(&self) -> f64 {
        self.total_nll / self.tokens as f64
    }

    /// The exponential of the loss.
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// Bits per byte, if the predicted tokens are `bytes` bytes of text.
    pub fn bits_per_byte(&self, bytes: u64) -> f64 {
        self.total_nll / std::f64::consts::LN_2 / bytes as f64
    }
}

/// Token losses of batches by compiled forward passes, each traced once for each shape of batch.
pub struct Evaluator {
    model: ModelConfig,
    /// Each evaluates whole batches, so the number of workers changes losses at most by rounding.
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

array_tree! {
    ForwardInputs { parameters, inputs, targets }
}

impl Evaluator {
    /// For a model with parameters of those names, on `threads` CPU threads, or on a GPU with one.
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

    /// For a checkpoint's model, with a thread for each core, or one for a GPU.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let threads = default_threads(Device::current()?);
        Self::new(&checkpoint.model, checkpoint.parameters.names(), threads)
    }

    /// Rows of a batch of `length` tokens each: enough to keep MLX busy, few enough for memory.
    pub fn rows(&self, length: usize) -> usize {
        batch_rows(self.model.vocab_size, length, self.batches_at_once())
    }

    /// Batches that are evaluated in parallel.
    pub fn batches_at_once(&self) -> usize {
        self.workers.count()
    }

    /// The negative log-likelihoods of all targets that are not ignored, summed.
    ///
    /// # Errors
    /// As [`losses`](Self::losses).
    pub fn evaluate(
        &mut self,
        parameters: &Parameters,
        batches: impl IntoIterator<Item = Batch>,
    ) -> Result<Evaluation> {
        let mut tokens = 0;
        let counted = batches.into_iter().inspect(|batch| tokens += batch.target_count());
        let losses = self.losses(parameters, counted)?;
        let mut total = Evaluation::default();
        losses.iter().for_each(|losses| total.add(losses));
        Ok(Evaluation { tokens, ..total })
    }

    /// The negative log-likelihood of each target, in nats, and 0 for ignored ones, as PyTorch's cross_entropy gives it: for
    /// each batch `[B, T]`, row-major. Sum them in float64.
    ///
    /// # Errors
    /// A token id outside the vocabulary, rows longer than memory can hold, or an error of MLX's, after which the evaluator
    /// can't be used.
    pub fn losses(
        &mut self,
        parameters: &Parameters,
        batches: impl IntoIterator<Item = Batch>,
    ) -> Result<Vec<Vec<f32>>> {
        // A graph belongs to its thread's stream: worker threads need evaluated arrays.
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
            let ignored: Vec<Vec<usize>> = tasks.iter().map(|task| ignored(&task.batch)).collect();
            for (batch_losses, ignored) in self.workers.run(tasks)?.iter().zip(ignored) {
                let mut batch_losses: Vec<f32> = batch_losses.to_vec_exact()?;
                ignored.into_iter().for_each(|position| batch_losses[position] = 0.0);
                losses.push(batch_losses);
            }
        }
    }

    fn task(&self, parameters: &Parameters, batch: Batch) -> Result<EvaluationTask> {
        batch.check(self.model.vocab_size)?;
        let (rows, length, threads) = (batch.rows, batch.context(), self.batches_at_once());
        memory::ensure_fits(
            format_args!("an evaluation of {rows} row(s) of {length} tokens on each of {threads} thread(s)"),
            memory::forward_bytes(&self.model, threads * rows, length),
            "the model's context is longer than this machine's memory allows; evaluate shorter texts",
        )?;
        Ok(EvaluationTask {
            parameters: parameters.arrays().to_vec(),
            batch,
        })
    }
}

/// The function of a worker: the losses of a batch, `[B, T]`.
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
            targets: Array::from_slice(&batch.indexable_targets(), &shape),
        })
    })
}

/// Positions of a batch whose targets are ignored.
fn ignored(batch: &Batch) -> Vec<usize> {
    let targets = batch.targets.iter().enumerate();
    let ignored = targets.filter(|&(_, &id)| id == IGNORE_INDEX);
    ignored.map(|(position, _)| position).collect()
}

/// Rows of `length` tokens of each of `at_once` parallel batches, at least one.
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

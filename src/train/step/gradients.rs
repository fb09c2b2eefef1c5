//! The loss of a micro-batch, and its gradients.

use mlx_rs::error::Result;
use mlx_rs::transforms::value_and_grad_with_argnums;
use mlx_rs::{Array, Dtype, ops};

use super::arrays::{Gradients, LossMask, WorkerBatch};
use super::objective::ObjectiveRows;
use crate::config::{ModelConfig, Objective, Precision};
use crate::data::batches::{Batch, IGNORE_INDEX};
use crate::model::Model;
use crate::model::dropout::Dropout;
use crate::model::parameters::{Names, Parameters};

/// A micro-batch and the random keys of its dropout masks.
#[derive(Clone)]
pub struct MicroBatch {
    /// Inputs and targets.
    pub batch: Batch,
    /// `[sites, 2]`, row-major.
    pub dropout_keys: Vec<u32>,
    /// As in [`WorkerBatch`]: set by the [`Stepper`](super::Stepper), empty before.
    pub ngram_rows: Vec<Vec<u32>>,
    /// What the loss depends on, if it is not that of the next token.
    pub objective: Option<ObjectiveRows>,
}

/// The loss function whose gradients are computed: the same in every step of a run.
#[derive(Clone)]
pub struct LossAndGradFn {
    /// The model's configuration.
    pub model: ModelConfig,
    /// Names of the trainable parameters.
    pub trainable_names: Names,
    /// Names of the frozen parameters.
    pub frozen_names: Names,
    /// Format of the forward and backward pass.
    pub precision: Precision,
    /// Gradient checkpointing of the blocks.
    pub recompute: bool,
    /// Rows of a micro-batch, on all ranks together.
    pub batch_rows: usize,
    /// Rows of a micro-batch that the loss is the mean of: all, but where this rank trains apart from the others.
    pub mean_rows: usize,
    /// Micro-batches of a step.
    pub micro_batches: usize,
    /// Tokens of a row; at most the model's context.
    pub row_tokens: usize,
    /// What is minimised.
    pub objective: Objective,
}

/// The micro-batches of a step.
pub struct StepBatch {
    micro_batches: Vec<MicroBatch>,
    /// How many of their targets count, if some are ignored. The mean is over these, however they are distributed over
    /// micro-batches and workers.
    counted: Option<usize>,
}

impl StepBatch {
    /// Counts the targets.
    ///
    /// # Errors
    /// All are ignored: the mean over none is no number.
    pub fn new(micro_batches: Vec<MicroBatch>) -> anyhow::Result<Self> {
        let all: usize = micro_batches.iter().map(|part| part.batch.targets.len()).sum();
        let counted: usize = micro_batches.iter().map(|part| part.batch.target_count()).sum();
        anyhow::ensure!(
            counted > 0,
            "all {all} targets of a step are ignored, so it has no loss; give rows in which some tokens are to be learned"
        );
        Ok(Self {
            micro_batches,
            counted: (counted < all).then_some(counted),
        })
    }

    /// The micro-batches.
    pub fn micro_batches(&self) -> &[MicroBatch] {
        &self.micro_batches
    }

    /// The rows of a micro-batch from `first` up to, but not including, `end`.
    pub fn worker_batch(&self, micro_batch: &MicroBatch, [first, end]: [usize; 2], loss_scale: f32) -> WorkerBatch {
        let MicroBatch {
            batch,
            dropout_keys,
            ngram_rows,
            objective,
        } = micro_batch;
        let context = batch.context();
        let shape = [(end - first) as i32, context as i32];
        let tokens = |ids: &[u32]| Array::from_slice(&ids[first * context..end * context], &shape);
        let loss_mask = self.counted.map(|counted| {
            let targets = batch.targets[first * context..end * context].iter();
            let mask: Vec<bool> = targets.map(|&id| id != IGNORE_INDEX).collect();
            LossMask {
                counted: Array::from_slice(&mask, &shape),
                inverse_count: Array::from_f32(1.0 / counted as f32),
            }
        });
        WorkerBatch {
            inputs: tokens(&batch.inputs),
            targets: match loss_mask {
                None => tokens(&batch.targets),
                Some(_) => tokens(&batch.indexable_targets()),
            },
            loss_mask,
            objective: objective.as_ref().map(|rows| rows.arrays([first, end], context)),
            ngram_rows: ngram_rows.iter().map(|rows| tokens(rows)).collect(),
            dropout_keys: Array::from_slice(dropout_keys, &[dropout_keys.len() as i32 / 2, 2]),
            loss_scale: Array::from_f32(loss_scale),
        }
    }
}

impl LossAndGradFn {
    /// Loss and gradients of `batch`, the rows of a micro-batch from `first_row` on. `parameters` and
    /// `frozen` are arrays of any shapes, in the order of their names; the gradients are in that of `parameters`.
    ///
    /// In float16, gradients below 6e-8 underflow to zero: the loss is scaled up before the backward pass, and the gradients
    /// are scaled down after it, in float32 (Micikevicius et al. 2018, section 3.2). The other formats need no scale.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn gradients(
        &self,
        first_row: usize,
        parameters: &[Array],
        frozen: &[Array],
        batch: &WorkerBatch,
    ) -> Result<Gradients> {
        let scaled = self.precision == Precision::Float16;
        let loss = |parameters: &[Array]| -> Result<Vec<Array>> {
            let mut losses = self.losses(first_row, parameters, frozen, batch)?;
            if scaled {
                losses[0] = losses[0].multiply(&batch.loss_scale)?;
            }
            Ok(losses) // the gradients are those of the first
        };
        let every: Vec<i32> = (0..parameters.len() as i32).collect();
        let (losses, gradients) = value_and_grad_with_argnums(loss, every.as_slice())(parameters)?;
        let unscaled = |array: &Array| {
            if scaled {
                array.divide(&batch.loss_scale)
            } else {
                Ok(array.clone())
            }
        };
        Ok(Gradients {
            loss: unscaled(&losses[0])?,
            terms: losses[1..].to_vec(),
            gradients: gradients.iter().map(unscaled).collect::<Result<_>>()?,
        })
    }

    /// The contribution of these rows to the step's mean loss, then to its terms if the objective has any; scalars.
    fn losses(
        &self,
        first_row: usize,
        parameters: &[Array],
        frozen: &[Array],
        batch: &WorkerBatch,
    ) -> Result<Vec<Array>> {
        let dtype = match self.precision {
            Precision::Float32 => Dtype::Float32,
            Precision::Bfloat16 => Dtype::Bfloat16,
            Precision::Float16 => Dtype::Float16,
        };
        let names = self.trainable_names.iter().chain(self.frozen_names.iter()).cloned();
        let entries = names.zip(parameters.iter().chain(frozen).cloned()).collect();
        let parameters = Parameters::from_entries(entries).map(|array| array.as_dtype(dtype))?;
        let dropout = (self.model.dropout > 0.0).then(|| {
            Dropout::new(
                self.model.dropout,
                batch.dropout_keys.clone(),
                self.batch_rows as i32,
                first_row as i32,
            )
        });
        let mut model = Model::new(&self.model, &parameters)?.with_ngram_rows(&batch.ngram_rows);
        if self.recompute {
            model = model.with_recompute(&self.model, &parameters);
        }
        let losses = model.losses(&batch.inputs, &batch.targets, dropout.as_ref())?; // [rows, T]
        if let Some(rows) = &batch.objective {
            return rows.losses(self.objective, &losses.negative()?);
        }
        if let Some(mask) = &batch.loss_mask {
            // Selected, not multiplied: a loss that is not finite is ignored, too.
            let losses = ops::select(&mask.counted, &losses, Array::from_f32(0.0))?;
            return Ok(vec![losses.sum(None)?.multiply(&mask.inverse_count)?]);
        }
        let tokens = self.mean_rows * self.micro_batches * self.row_tokens;
        Ok(vec![losses.sum(None)?.multiply(Array::from_f32(1.0 / tokens as f32))?])
    }
}

impl Gradients {
    /// The sum of both.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn add(&self, other: &Self) -> Result<Self> {
        let pairs = self.gradients.iter().zip(&other.gradients);
        Ok(Self {
            loss: self.loss.add(&other.loss)?,
            terms: self
                .terms
                .iter()
                .zip(&other.terms)
                .map(|(a, b)| a.add(b))
                .collect::<Result<_>>()?,
            gradients: pairs.map(|(a, b)| a.add(b)).collect::<Result<_>>()?,
        })
    }
}

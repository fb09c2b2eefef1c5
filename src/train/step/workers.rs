//! The gradients of a step, each thread's from its share of the rows.

use std::sync::Arc;

use anyhow::{Context, Result};
use mlx_rs::Array;

use super::gradients::{GradientSpec, MicroBatch, Share};
use crate::compute::workers::{Team, Work};
use crate::model::parameters::Parameters;

/// A loss, already divided by the step's number of tokens, and gradients in the order of the parameters.
pub struct Gradients {
    pub loss: Array,
    pub gradients: Vec<Array>,
}

/// Computes the gradients of whole steps.
pub struct DataParallel(Team<Task>);

#[derive(Clone)]
struct Task {
    parameters: Vec<Array>,
    micro_batches: Arc<Vec<MicroBatch>>,
    loss_scale: f32,
}

impl DataParallel {
    /// With as many of the `threads` that a run has as are worth it; in the caller's thread if a run has one.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn new(spec: &GradientSpec, threads: usize) -> Result<Self> {
        let shares = shares(spec, threads);
        let spec = spec.clone();
        let work = move |index: usize| -> Work<Task> {
            let mut share = Share::new(&spec, index, shares);
            Box::new(move |task: Task| share.compute(&task.parameters, &task.micro_batches, task.loss_scale))
        };
        Ok(Self(match threads {
            0 | 1 => Team::inline(work(0)),
            _ => Team::of_threads("gradients", shares, work)?,
        }))
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.0.size()
    }

    /// One set of gradients of `parameters` a thread; the sum of them, and of their losses, is the step's. The model's
    /// other parameters are `frozen`. In float16, losses are scaled by `loss_scale` before the backward pass.
    ///
    /// # Errors
    /// MLX's, or a thread that ended; nothing can be computed by this afterwards.
    pub fn compute(
        &mut self,
        parameters: &Parameters,
        frozen: &Parameters,
        micro_batches: &Arc<Vec<MicroBatch>>,
        loss_scale: f32,
    ) -> Result<Vec<Gradients>> {
        let task = Task {
            parameters: [parameters.arrays(), frozen.arrays()].concat(),
            micro_batches: Arc::clone(micro_batches),
            loss_scale,
        };
        let outputs = self.0.run(std::iter::repeat_n(task, self.threads()))?;
        outputs
            .into_iter()
            .map(|arrays| {
                let mut arrays = arrays.into_iter();
                let loss = arrays.next().context("a gradient function returned nothing")?;
                Ok(Gradients {
                    loss,
                    gradients: arrays.collect(),
                })
            })
            .collect()
    }
}

/// Threads that share the rows of a micro-batch.
///
/// Each makes a gradient of its own for every parameter, which takes memory, and reads every matrix for its rows alone. So
/// each must have a row, and half as many tokens as the model is wide. Where there are fewer, one graph has all rows, and
/// its products, of large matrices, take the cores.
fn shares(spec: &GradientSpec, threads: usize) -> usize {
    let tokens = spec.batch_rows * spec.row_tokens;
    threads.min(spec.batch_rows).min(2 * tokens / spec.model.embd).max(1)
}

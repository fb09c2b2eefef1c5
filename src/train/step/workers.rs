//! A step on several threads: each computes the gradients of some rows, then updates some parameters.

use std::sync::Arc;

use anyhow::{Context, Result};
use mlx_rs::Array;
use mlx_rs::error::{Exception, Result as MlxResult};

use super::arrays::{
    AllReduceInputs, AllReduceOutputs, GradientInputs, Gradients, ParameterState, StepOutputs, StepScalars,
    UpdateInputs,
};
use super::control::sum_of_squares;
use super::gradients::{LossAndGradFn, StepBatch};
use super::update::UpdateFn;
use crate::compute::compiled::{compiled, tree_eval};
use crate::compute::workers::{Work, Workers};

/// Data parallelism: each worker computes some rows of every micro-batch.
pub struct GradientWorkers(Workers<GradientTask, Gradients>);

#[derive(Clone)]
struct GradientTask {
    parameters: Vec<Array>,
    frozen: Vec<Array>,
    batch: Arc<StepBatch>,
    loss_scale: f32,
}

impl GradientWorkers {
    /// For all rows, on as many of the run's `threads` as pay off, or on the caller's thread if the run has one.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(loss_and_grad: &LossAndGradFn, threads: usize) -> Result<Self> {
        Self::of_rows(loss_and_grad, [0, loss_and_grad.batch_rows], threads)
    }

    /// For the rows of a micro-batch from the first up to, but not including, the second.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn of_rows(loss_and_grad: &LossAndGradFn, rows: [usize; 2], threads: usize) -> Result<Self> {
        let loss_and_grad = loss_and_grad.clone();
        let count = worker_count(&loss_and_grad, rows[1] - rows[0], threads);
        let unit = loss_and_grad.objective.rows_of_example();
        let examples = (rows[1] - rows[0]) / unit;
        let work = move |index: usize| {
            let part = [index, index + 1].map(|index| rows[0] + unit * (index * examples / count));
            gradient_work(loss_and_grad.clone(), part)
        };
        Ok(Self(match threads {
            0 | 1 => Workers::inline(work(0)),
            _ => Workers::threads("gradients", count, work)?,
        }))
    }

    /// Number of workers.
    pub fn count(&self) -> usize {
        self.0.count()
    }

    /// The gradients of each worker; the step's loss and gradients are their sums. `parameters` and `frozen` are arrays of
    /// any shapes, in the order of their names. In float16, losses are multiplied by `loss_scale` before the backward pass.
    ///
    /// # Errors
    /// MLX's, or a thread that ended; the workers can't be used afterwards.
    pub fn compute(
        &mut self,
        parameters: &[Array],
        frozen: &[Array],
        batch: &Arc<StepBatch>,
        loss_scale: f32,
    ) -> Result<Vec<Gradients>> {
        let task = GradientTask {
            parameters: parameters.to_vec(),
            frozen: frozen.to_vec(),
            batch: Arc::clone(batch),
            loss_scale,
        };
        self.0.run(std::iter::repeat_n(task, self.count()))
    }
}

/// Number of workers for that many rows of a micro-batch.
///
/// Each worker holds a full set of gradients and reads every matrix for its rows only, so it needs at least one row and
/// embd / 2 tokens to pay off. With fewer workers, the BLAS uses the other cores inside each matrix product.
fn worker_count(step: &LossAndGradFn, rows: usize, threads: usize) -> usize {
    let tokens = rows * step.row_tokens;
    let examples = rows / step.objective.rows_of_example();
    threads.min(examples).min(2 * tokens / step.model.embd).max(1)
}

/// The function of a worker: the gradients of its rows, summed over all micro-batches. They are evaluated after each
/// micro-batch, so that memory does not grow with their number.
fn gradient_work(loss_and_grad: LossAndGradFn, rows: [usize; 2]) -> Work<GradientTask, Gradients> {
    let accumulates = loss_and_grad.micro_batches > 1;
    let mut gradients = compiled(move |inputs: GradientInputs| {
        let new = loss_and_grad.gradients(rows[0], &inputs.parameters, &inputs.frozen, &inputs.batch)?;
        match inputs.accumulated {
            Some(accumulated) => accumulated.add(&new),
            None => Ok(new),
        }
    });
    Box::new(move |task| {
        let mut accumulated = None;
        for micro_batch in task.batch.micro_batches() {
            let inputs = GradientInputs {
                accumulated: accumulated.take(),
                parameters: task.parameters.clone(),
                frozen: task.frozen.clone(),
                batch: task.batch.worker_batch(micro_batch, rows, task.loss_scale),
            };
            let sum = gradients(inputs)?;
            if accumulates {
                tree_eval(&sum)?;
            }
            accumulated = Some(sum);
        }
        accumulated.ok_or_else(|| Exception::custom("a step has no micro-batch"))
    })
}

/// The update, with the parameters distributed over workers.
pub struct UpdateWorkers {
    /// Indices of each worker's parameters.
    parameters: Vec<Vec<usize>>,
    /// The all-reduce over the gradient workers. None on the caller's thread, where there is one gradient worker.
    reduce: Option<Workers<AllReduceInputs, AllReduceOutputs>>,
    updates: Workers<UpdateInputs, StepOutputs>,
}

/// Gradients of each update worker's parameters, and the squared norms of all parameters' gradients if an all-reduce has
/// computed them.
struct ReducedByWorker {
    gradients: Vec<Vec<Array>>,
    squared_norms: Option<Vec<Array>>,
}

impl UpdateWorkers {
    /// For parameters of these costs, on `threads` threads, or on the caller's thread if the run has one.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(update_fn: &UpdateFn, costs: &[u64], threads: usize) -> Result<Self> {
        let parameters = balance(costs, threads);
        let functions: Vec<UpdateFn> = parameters.iter().map(|indices| update_fn.of(indices)).collect();
        let update = move |worker: usize| -> Work<UpdateInputs, StepOutputs> {
            let function = functions[worker].clone();
            compiled(move |inputs| function.update(inputs))
        };
        let (reduce, updates) = match threads {
            0 | 1 => (None, Workers::inline(update(0))),
            _ => {
                let reduce = |_| -> Work<AllReduceInputs, AllReduceOutputs> { compiled(all_reduce) };
                (
                    Some(Workers::threads("all-reduce", parameters.len(), reduce)?),
                    Workers::threads("updates", parameters.len(), update)?,
                )
            }
        };
        Ok(Self {
            parameters,
            reduce,
            updates,
        })
    }

    /// Parameters and moments after a step with the gradients of all workers. The old ones are moved in, so that MLX can
    /// write the new ones into their buffers.
    ///
    /// # Errors
    /// MLX's, or a thread that ended; the workers can't be used afterwards.
    pub fn update(
        &mut self,
        states: Vec<ParameterState>,
        gradients: Vec<Gradients>,
        scalars: &StepScalars,
    ) -> Result<StepOutputs> {
        let losses: Vec<Array> = gradients.iter().map(|worker| worker.loss.clone()).collect();
        let terms: Vec<Vec<Array>> = gradients.iter().map(|worker| worker.terms.clone()).collect();
        let ReducedByWorker {
            gradients,
            squared_norms,
        } = self.all_reduce(gradients)?;
        let mut states: Vec<Option<ParameterState>> = states.into_iter().map(Some).collect();
        let inputs = self
            .parameters
            .iter()
            .zip(gradients)
            .map(|(indices, gradients)| UpdateInputs {
                losses: losses.clone(),
                terms: terms.clone(),
                squared_norms: squared_norms.clone(),
                gradients,
                states: indices.iter().filter_map(|&index| states[index].take()).collect(),
                scalars: scalars.clone(),
            });
        let inputs: Vec<UpdateInputs> = inputs.collect();
        let mut metrics = None;
        for (indices, outputs) in self.parameters.iter().zip(self.updates.run(inputs)?) {
            metrics = Some(outputs.metrics); // equal for all workers
            for (&index, state) in indices.iter().zip(outputs.states) {
                states[index] = Some(state);
            }
        }
        Ok(StepOutputs {
            metrics: metrics.context("no worker has made an update")?,
            states: states.into_iter().flatten().collect(),
        })
    }

    /// The gradients of each update worker's parameters, summed over the gradient workers, and the squared norms of all,
    /// in the order of the parameters: the norm does not depend on the number of update workers.
    fn all_reduce(&mut self, gradients: Vec<Gradients>) -> Result<ReducedByWorker> {
        let Some(reduce) = &mut self.reduce else {
            return Ok(ReducedByWorker {
                gradients: gradients.into_iter().map(|worker| worker.gradients).collect(),
                squared_norms: None,
            });
        };
        let inputs = self.parameters.iter().map(|indices| AllReduceInputs {
            gradients: gradients
                .iter()
                .map(|worker| indices.iter().map(|&index| worker.gradients[index].clone()).collect())
                .collect(),
        });
        let inputs: Vec<AllReduceInputs> = inputs.collect();
        drop(gradients);
        let mut squared_norms = Vec::new();
        let mut summed = Vec::with_capacity(inputs.len());
        for (indices, outputs) in self.parameters.iter().zip(reduce.run(inputs)?) {
            squared_norms.extend(indices.iter().zip(outputs.squared_norms));
            summed.push(outputs.gradients);
        }
        squared_norms.sort_by_key(|(index, _)| **index);
        Ok(ReducedByWorker {
            gradients: summed,
            squared_norms: Some(squared_norms.into_iter().map(|(_, square)| square).collect()),
        })
    }
}

fn all_reduce(inputs: AllReduceInputs) -> MlxResult<AllReduceOutputs> {
    let mut workers = inputs.gradients.into_iter();
    let mut gradients = workers.next().unwrap_or_default();
    for worker in workers {
        for (sum, gradient) in gradients.iter_mut().zip(worker) {
            *sum = sum.add(gradient)?;
        }
    }
    Ok(AllReduceOutputs {
        squared_norms: gradients.iter().map(sum_of_squares).collect::<MlxResult<_>>()?,
        gradients,
    })
}

/// Distributes the indices of `costs` over `count` workers of about the same cost: each, the largest first, goes to the
/// worker with the least cost so far.
fn balance(costs: &[u64], count: usize) -> Vec<Vec<usize>> {
    let mut parts = vec![(0, Vec::new()); count.clamp(1, costs.len().max(1))];
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(costs[index]));
    for index in order {
        if let Some((cost, part)) = parts.iter_mut().min_by_key(|(cost, _)| *cost) {
            *cost += costs[index];
            part.push(index);
        }
    }
    let sorted = |(_, mut part): (u64, Vec<usize>)| {
        part.sort_unstable();
        part
    };
    parts.into_iter().map(sorted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_about_the_same_cost() {
        assert_eq!(balance(&[5, 9, 1, 4], 2), [vec![1, 2], vec![0, 3]]);
        assert_eq!(balance(&[5, 9], 5), [vec![1], vec![0]]);
        assert_eq!(balance(&[5, 9, 1], 1), [vec![0, 1, 2]]);
    }
}

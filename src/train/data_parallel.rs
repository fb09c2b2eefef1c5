//! The gradients of a step, on one thread or several.
//!
//! On MLX's CPU backend one stream is one thread, so two cores need two graphs: each worker thread compiles its own
//! function over its share of the rows, and sums of gradients come back as array handles. With one thread (a GPU)
//! nothing is evaluated here: the graph goes on into the update, and a step is one piece of work.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use mlx_rs::Array;
use mlx_rs::error::Result as MlxResult;
use mlx_rs::transforms::eval;

use super::gradients::{GradientSpec, MicroBatch, Share};
use crate::model::parameters::Parameters;

/// A loss, already divided by the step's number of tokens, and gradients in the order of the parameters.
pub struct Gradients {
    pub loss: Array,
    pub gradients: Vec<Array>,
}

/// Computes the gradients of whole steps.
pub struct DataParallel(Mode);

enum Mode {
    /// On the caller's thread, lazily.
    Inline(Share),
    Threads(Vec<Worker>),
}

impl DataParallel {
    /// With as many threads as asked for, but no more than a micro-batch has rows.
    pub fn new(spec: &GradientSpec, threads: usize) -> Result<Self> {
        let threads = threads.clamp(1, spec.batch_rows);
        if threads == 1 {
            return Ok(Self(Mode::Inline(Share::new(spec, 0, 1))));
        }
        let workers = (0..threads).map(|index| Worker::spawn(spec.clone(), index, threads));
        Ok(Self(Mode::Threads(workers.collect::<Result<_>>()?)))
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        match &self.0 {
            Mode::Inline(_) => 1,
            Mode::Threads(workers) => workers.len(),
        }
    }

    /// One set of gradients of `parameters` a thread; the sum of them, and of their losses, is the step's. The model's
    /// other parameters are `frozen`. In float16, losses are scaled by `loss_scale` before the backward pass.
    ///
    /// # Errors
    /// MLX's, or a thread that ended; the computer is of no use after that.
    pub fn compute(
        &mut self,
        parameters: &Parameters,
        frozen: &Parameters,
        micro_batches: &Arc<Vec<MicroBatch>>,
        loss_scale: f32,
    ) -> Result<Vec<Gradients>> {
        let arrays = [parameters.arrays(), frozen.arrays()].concat();
        let outputs = match &mut self.0 {
            Mode::Inline(share) => vec![share.compute(&arrays, micro_batches, loss_scale)?],
            Mode::Threads(workers) => {
                for worker in workers.iter() {
                    worker.send(arrays.clone(), Arc::clone(micro_batches), loss_scale)?;
                }
                drop(arrays);
                let outputs: Vec<_> = workers.iter().map(Worker::receive).collect();
                outputs.into_iter().collect::<Result<_>>()?
            }
        };
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

struct Task {
    parameters: Vec<Array>,
    micro_batches: Arc<Vec<MicroBatch>>,
    loss_scale: f32,
}

/// A thread with its own MLX stream and compiled functions.
struct Worker {
    /// Taken on dropping, which ends the thread.
    tasks: Option<Sender<Task>>,
    results: Receiver<MlxResult<Vec<Array>>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn spawn(spec: GradientSpec, index: usize, count: usize) -> Result<Self> {
        let (tasks, inbox) = channel::<Task>();
        let (outbox, results) = channel();
        let thread = std::thread::Builder::new()
            .name(format!("gradients-{index}"))
            .spawn(move || {
                let mut share = Share::new(&spec, index, count);
                for task in inbox {
                    let result = share
                        .compute(&task.parameters, &task.micro_batches, task.loss_scale)
                        .and_then(|arrays| eval(&arrays).map(|()| arrays));
                    drop(task); // the parameters' buffers may be reused as soon as the answer is there
                    if outbox.send(result).is_err() {
                        break;
                    }
                }
            })
            .context("a gradient thread could not be started")?;
        Ok(Self {
            tasks: Some(tasks),
            results,
            thread: Some(thread),
        })
    }

    fn send(&self, parameters: Vec<Array>, micro_batches: Arc<Vec<MicroBatch>>, loss_scale: f32) -> Result<()> {
        let task = Task {
            parameters,
            micro_batches,
            loss_scale,
        };
        match &self.tasks {
            Some(tasks) if tasks.send(task).is_ok() => Ok(()),
            _ => bail!("a gradient thread ended early"),
        }
    }

    fn receive(&self) -> Result<Vec<Array>> {
        Ok(self.results.recv().context("a gradient thread ended early")??)
    }
}

/// Joins the thread: MLX must not be computing while the process ends.
impl Drop for Worker {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

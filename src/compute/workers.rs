//! Workers: threads that compute in parallel, each with an MLX stream and compiled functions of its own.
//!
//! On MLX's CPU backend a graph is evaluated by one thread, so two cores need two graphs.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};
use mlx_rs::error::Result as MlxResult;

use super::compiled::{ArrayTree, tree_eval};

/// What a worker does with a task. It has dropped the task's arrays when it returns, so that MLX can write results into
/// their buffers.
pub type Work<Task, Output> = Box<dyn FnMut(Task) -> MlxResult<Output>>;

/// A pool of workers that all run the same function.
pub struct Workers<Task, Output>(Mode<Task, Output>);

enum Mode<Task, Output> {
    /// The caller's thread is the only worker: for a GPU, or one CPU thread. Nothing is evaluated: the caller may build
    /// on the graph.
    Inline(Work<Task, Output>),
    Threads(Vec<Worker<Task, Output>>),
}

impl<Task: Send + 'static, Output: ArrayTree + Send + 'static> Workers<Task, Output> {
    /// The caller's thread alone.
    pub fn inline(work: Work<Task, Output>) -> Self {
        Self(Mode::Inline(work))
    }

    /// `count` threads. `make` is called in each thread, with the worker's index, to make its work.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn threads(
        name: &str,
        count: usize,
        make: impl Fn(usize) -> Work<Task, Output> + Clone + Send + 'static,
    ) -> Result<Self> {
        let workers = (0..count).map(|index| {
            let make = make.clone();
            Worker::spawn(format!("{name}-{index}"), move || make(index))
        });
        Ok(Self(Mode::Threads(workers.collect::<Result<_>>()?)))
    }

    /// Number of workers.
    pub fn count(&self) -> usize {
        match &self.0 {
            Mode::Inline(_) => 1,
            Mode::Threads(workers) => workers.len(),
        }
    }

    /// Gives each of the first workers its task, and waits for all results, in the order of the tasks.
    ///
    /// # Errors
    /// MLX's, or a thread that ended; the workers cannot be used after that.
    pub fn run(&mut self, tasks: impl IntoIterator<Item = Task>) -> Result<Vec<Output>> {
        let mut tasks = tasks.into_iter();
        match &mut self.0 {
            Mode::Inline(work) => {
                let task = tasks.next().context("the workers were given no task")?;
                ensure!(tasks.next().is_none(), "there are more tasks than workers");
                Ok(vec![work(task)?])
            }
            Mode::Threads(workers) => {
                let mut busy = Vec::with_capacity(workers.len());
                for task in tasks {
                    let worker = workers.get(busy.len()).context("there are more tasks than workers")?;
                    worker.send(task)?;
                    busy.push(worker);
                }
                let outputs: Vec<_> = busy.into_iter().map(Worker::receive).collect();
                outputs.into_iter().collect()
            }
        }
    }
}

/// A thread, and the channels to it and back.
struct Worker<Task, Output> {
    /// Taken on dropping, which ends the thread.
    tasks: Option<Sender<Task>>,
    results: Receiver<MlxResult<Output>>,
    thread: Option<JoinHandle<()>>,
}

impl<Task: Send + 'static, Output: ArrayTree + Send + 'static> Worker<Task, Output> {
    fn spawn(name: String, make: impl FnOnce() -> Work<Task, Output> + Send + 'static) -> Result<Self> {
        let (tasks, inbox) = channel::<Task>();
        let (outbox, results) = channel();
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || {
                let mut work = make();
                for task in inbox {
                    // A graph belongs to its thread: other threads get numbers.
                    let result = work(task).and_then(|output| tree_eval(&output).map(|()| output));
                    if outbox.send(result).is_err() {
                        break;
                    }
                }
            })
            .context("a worker thread could not be started")?;
        Ok(Self {
            tasks: Some(tasks),
            results,
            thread: Some(thread),
        })
    }

    fn send(&self, task: Task) -> Result<()> {
        match &self.tasks {
            Some(tasks) if tasks.send(task).is_ok() => Ok(()),
            _ => bail!("a worker thread ended early"),
        }
    }

    fn receive(&self) -> Result<Output> {
        Ok(self.results.recv().context("a worker thread ended early")??)
    }
}

/// Joins the thread: MLX must not be computing while the process ends.
impl<Task, Output> Drop for Worker<Task, Output> {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

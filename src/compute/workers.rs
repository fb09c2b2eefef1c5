//! Threads that compute side by side, each with an MLX stream and compiled functions of its own.
//!
//! On MLX's CPU backend a graph is evaluated by one thread, so two cores need two graphs. On the caller's thread (for a GPU, or
//! where there is one CPU thread) nothing is evaluated here: the graph goes on into what the caller makes of it, and a step is
//! one piece of work.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use mlx_rs::Array;
use mlx_rs::error::Result as MlxResult;
use mlx_rs::transforms::eval;

/// What a member of a team makes of a task. It has let go of the task's arrays when it returns, so that MLX may write
/// results into their buffers.
pub type Work<Task> = Box<dyn FnMut(Task) -> MlxResult<Vec<Array>>>;

/// Members that all do the same kind of work.
pub struct Team<Task>(Mode<Task>);

enum Mode<Task> {
    /// On the caller's thread, lazily.
    Inline(Work<Task>),
    Threads(Vec<Member<Task>>),
}

impl<Task: Send + 'static> Team<Task> {
    /// Of the caller's thread alone.
    pub fn inline(work: Work<Task>) -> Self {
        Self(Mode::Inline(work))
    }

    /// Of so many threads. `make` gives each member its work, in its thread.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn of_threads(
        name: &str,
        size: usize,
        make: impl Fn(usize) -> Work<Task> + Clone + Send + 'static,
    ) -> Result<Self> {
        let members = (0..size).map(|index| {
            let make = make.clone();
            Member::spawn(format!("{name}-{index}"), move || make(index))
        });
        Ok(Self(Mode::Threads(members.collect::<Result<_>>()?)))
    }

    /// Members.
    pub fn size(&self) -> usize {
        match &self.0 {
            Mode::Inline(_) => 1,
            Mode::Threads(members) => members.len(),
        }
    }

    /// Gives each of the first members its task, and waits for what they make of them.
    ///
    /// # Errors
    /// MLX's, or a thread that ended; the team is of no use after that.
    pub fn run(&mut self, tasks: impl IntoIterator<Item = Task>) -> Result<Vec<Vec<Array>>> {
        let mut tasks = tasks.into_iter();
        match &mut self.0 {
            Mode::Inline(work) => {
                let task = tasks.next().context("a team was given no task")?;
                Ok(vec![work(task)?])
            }
            Mode::Threads(members) => {
                let mut busy = Vec::with_capacity(members.len());
                for (member, task) in members.iter().zip(tasks) {
                    member.send(task)?;
                    busy.push(member);
                }
                let outputs: Vec<_> = busy.into_iter().map(Member::receive).collect();
                outputs.into_iter().collect()
            }
        }
    }
}

/// A thread, and the ways to it and back.
struct Member<Task> {
    /// Taken on dropping, which ends the thread.
    tasks: Option<Sender<Task>>,
    results: Receiver<MlxResult<Vec<Array>>>,
    thread: Option<JoinHandle<()>>,
}

impl<Task: Send + 'static> Member<Task> {
    fn spawn(name: String, make: impl FnOnce() -> Work<Task> + Send + 'static) -> Result<Self> {
        let (tasks, inbox) = channel::<Task>();
        let (outbox, results) = channel();
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || {
                let mut work = make();
                for task in inbox {
                    let result = work(task).and_then(|arrays| eval(&arrays).map(|()| arrays));
                    if outbox.send(result).is_err() {
                        break;
                    }
                }
            })
            .context("a computing thread could not be started")?;
        Ok(Self {
            tasks: Some(tasks),
            results,
            thread: Some(thread),
        })
    }

    fn send(&self, task: Task) -> Result<()> {
        match &self.tasks {
            Some(tasks) if tasks.send(task).is_ok() => Ok(()),
            _ => bail!("a computing thread ended early"),
        }
    }

    fn receive(&self) -> Result<Vec<Array>> {
        Ok(self.results.recv().context("a computing thread ended early")??)
    }
}

/// Joins the thread: MLX must not be computing while the process ends.
impl<Task> Drop for Member<Task> {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

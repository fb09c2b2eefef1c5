//! The one thread that uses MLX: it loads models, generates, and looks into them.
//!
//! Requests wait in a queue. Every generation that has begun gets one token a round, whoever asked for it, so that a long
//! text delays a short one by a token, not by its length. What looks into a model runs between two rounds.

mod generation;
mod models;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot};

pub use generation::{Event, Prompt, Request};
use generation::{Generation, Turn};
pub use models::Loaded;
use models::{Missing, Models, resolve};

use crate::compute::memory;
use crate::config::Device;
use crate::error::{Error, ErrorKind};

/// Completions that are generated or wait, in all.
pub const MAX_COMPLETIONS: usize = 64;

/// Tokens that a slow reader may be behind before its generation waits for it.
const EVENTS: usize = 64;

/// Bytes of keys and values of all generations; further ones wait until others end.
const CACHE_BYTES: f64 = (2u64 << 30) as f64;

/// How long to sleep when every reader is behind.
const READERS_BEHIND: Duration = Duration::from_millis(5);

type Look = Box<dyn FnOnce(Result<&Loaded>) + Send>;

enum Task {
    Generate {
        request: Request,
        events: mpsc::Sender<Event>,
        ticket: Ticket,
    },
    Look(Look),
}

struct Job {
    /// A run or a checkpoint.
    model: PathBuf,
    task: Task,
}

/// Sends work to the thread that uses MLX.
#[derive(Clone)]
pub struct Engine {
    jobs: Sender<Job>,
    open: Arc<AtomicUsize>,
}

/// One of the completions that [`MAX_COMPLETIONS`] counts, until it is dropped.
struct Ticket(Arc<AtomicUsize>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// There are [`MAX_COMPLETIONS`] already.
#[derive(Debug)]
pub struct Busy;

impl Engine {
    /// Starts the thread, on `device`.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(device: Device) -> Result<Self> {
        let (jobs, incoming) = channel();
        thread::Builder::new()
            .name("model".into())
            .spawn(move || {
                // It was selected before in the thread that starts this one; each thread has streams of its own.
                if let Err(error) = device.select() {
                    log::warn!("{error:#}");
                }
                work(&incoming);
            })
            .context("the thread for models cannot be started")?;
        Ok(Self {
            jobs,
            open: Arc::default(),
        })
    }

    /// Number of completions that are generated or wait.
    pub fn open_completions(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Generates completions of the model at `model`, and sends what they come to. Dropping the receiver ends them.
    ///
    /// # Errors
    /// Too many at once.
    pub fn generate(&self, model: &std::path::Path, requests: Vec<Request>) -> Result<mpsc::Receiver<Event>, Busy> {
        let before = self.open.fetch_add(requests.len(), Ordering::Relaxed);
        let tickets: Vec<Ticket> = requests.iter().map(|_| Ticket(Arc::clone(&self.open))).collect();
        if before + requests.len() > MAX_COMPLETIONS {
            return Err(Busy);
        }
        let (events, receiver) = mpsc::channel(EVENTS + 2 * requests.len());
        for (request, ticket) in requests.into_iter().zip(tickets) {
            let events = events.clone();
            let task = Task::Generate {
                request,
                events,
                ticket,
            };
            // Were the thread gone, the receiver would end without an event.
            let _ = self.jobs.send(Job {
                model: model.to_owned(),
                task,
            });
        }
        Ok(receiver)
    }

    /// Calls `look` with the model at `model`, between two rounds.
    ///
    /// # Errors
    /// The model cannot be loaded; those of `look`; the thread has ended.
    pub async fn look<T: Send + 'static>(
        &self,
        model: PathBuf,
        look: impl FnOnce(&Loaded) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let task = Task::Look(Box::new(move |loaded| {
            let _ = answer.send(loaded.and_then(look)); // its reader may be gone
        }));
        let _ = self.jobs.send(Job { model, task });
        answered
            .await
            .context("the thread for models has ended; start the server again")?
    }
}

/// Works until all senders are gone.
fn work(incoming: &Receiver<Job>) {
    let mut models = Models::default();
    let mut queue = VecDeque::new();
    loop {
        models.make_room();
        if !work_without_dropping(&models, incoming, &mut queue) {
            return;
        }
    }
}

struct Active<'m> {
    generation: Generation<'m>,
    _ticket: Ticket,
}

/// Works until a model has to make room for another (true), or all senders are gone (false).
fn work_without_dropping(models: &Models, incoming: &Receiver<Job>, queue: &mut VecDeque<Job>) -> bool {
    let mut active: Vec<Active> = Vec::new();
    let mut behind = false;
    loop {
        let first = match (active.is_empty() && queue.is_empty(), behind) {
            (true, _) => match incoming.recv() {
                Ok(job) => Some(job),
                Err(_) => return false,
            },
            (false, true) => incoming.recv_timeout(READERS_BEHIND).ok(),
            (false, false) => None,
        };
        queue.extend(first.into_iter().chain(incoming.try_iter()));
        while let Some(job) = queue.pop_front() {
            match admit(models, job, &mut active) {
                Admitted::Yes => {}
                Admitted::NotYet(job) => {
                    queue.push_front(job);
                    break;
                }
                Admitted::NoRoom(job) => {
                    queue.push_front(job);
                    if active.is_empty() {
                        return true;
                    }
                    break;
                }
            }
        }
        behind = !active.is_empty();
        active.retain_mut(|active| {
            let turn = active.generation.turn();
            behind &= turn == Turn::Waiting;
            turn != Turn::Ended
        });
    }
}

enum Admitted {
    Yes,
    /// The generations that have begun leave no memory for its keys and values.
    NotYet(Job),
    /// A model has to be dropped first.
    NoRoom(Job),
}

fn admit<'m>(models: &'m Models, job: Job, active: &mut Vec<Active<'m>>) -> Admitted {
    let unread = match &job.task {
        Task::Generate { events, .. } => events.is_closed(),
        Task::Look(_) => false,
    };
    if unread {
        return Admitted::Yes;
    }
    let loaded = match resolve(&job.model).map_err(Missing::Failed) {
        Ok(folder) => models.get_or_load(&folder),
        Err(missing) => Err(missing),
    };
    let loaded = match loaded {
        Ok(loaded) => Ok(loaded),
        Err(Missing::Full) => return Admitted::NoRoom(job),
        Err(Missing::Failed(error)) => Err(error),
    };
    match (job.task, loaded) {
        (Task::Look(look), loaded) => look(loaded),
        (
            Task::Generate {
                request,
                events,
                ticket,
            },
            Ok(loaded),
        ) => {
            let held: f64 = active.iter().map(|active| active.generation.cache_bytes()).sum();
            if !active.is_empty() && held + memory::kv_cache_bytes(&loaded.checkpoint.model) > CACHE_BYTES {
                let task = Task::Generate {
                    request,
                    events,
                    ticket,
                };
                return Admitted::NotYet(Job { model: job.model, task });
            }
            let generation = Generation::begin(loaded, request, events);
            active.extend(generation.map(|generation| Active {
                generation,
                _ticket: ticket,
            }));
        }
        (Task::Generate { request, events, .. }, Err(error)) => {
            let _ = events.try_send(Event::Ended {
                index: request.index,
                error: Some(Error::new(ErrorKind::Checkpoint, error)),
            });
        }
    }
    Admitted::Yes
}

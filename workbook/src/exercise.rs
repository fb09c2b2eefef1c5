//! An exercise, and the check of an answer.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{process, thread};

use anyhow::Result;
use mlx_rs::{Array, random};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::value::Value;

/// Inputs are drawn this many times: a wrong function may be right by chance once.
const DRAWS: usize = 3;

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The function returns what it should.
    Right,
    /// Its body is still `todo!()`.
    NotWritten,
    /// What differs, and a hint.
    Wrong(String),
}

/// A function that the learner writes.
pub struct Exercise {
    /// The function's name.
    pub name: &'static str,
    time_limit: Duration,
    check: Box<dyn Fn(&mut Draw) -> Outcome>,
}

/// A usual mistake: the function that makes it, and what to say to whoever made it.
pub struct Mistake<I> {
    /// What went wrong, and what to do.
    pub hint: &'static str,
    /// What a function with that mistake returns.
    pub made: fn(&I) -> Result<Value>,
}

impl Exercise {
    /// Checks `answer` against `expected` on inputs that `draw` makes. Results may differ by `tolerance`, relative to the largest
    /// number.
    pub fn new<I: 'static>(
        name: &'static str,
        draw: fn(&mut Draw) -> Result<I>,
        expected: fn(&I) -> Result<Value>,
        answer: impl Fn(&I) -> Result<Value> + 'static,
        tolerance: f64,
        mistakes: Vec<Mistake<I>>,
    ) -> Self {
        let check = move |source: &mut Draw| match compare(source, draw, expected, &answer, tolerance, &mistakes) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Wrong(format!("       the check itself failed: {error:#}")),
        };
        Self {
            name,
            time_limit: Duration::from_secs(10), // it takes some milliseconds
            check: Box::new(check),
        }
    }

    /// With more time: MLX's compiler may take half a minute, the first time on a machine.
    pub fn compiles(self) -> Self {
        Self {
            time_limit: Duration::from_secs(120),
            ..self
        }
    }

    /// Calls the learner's function with inputs that are drawn anew. Ends the process if it does not return in time.
    pub fn check(&self) -> Outcome {
        let _limit = TimeLimit::start(self.name, self.time_limit);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut draw = Draw {
            rng: ChaCha8Rng::seed_from_u64(now.as_nanos() as u64),
            round: 0,
        };
        for round in 0..DRAWS {
            draw.round = round;
            match (self.check)(&mut draw) {
                Outcome::Right => {}
                outcome => return outcome,
            }
        }
        Outcome::Right
    }
}

/// Ends the process unless it is dropped in time: an endless loop cannot be stopped otherwise.
struct TimeLimit(Sender<()>);

impl TimeLimit {
    fn start(name: &'static str, limit: Duration) -> Self {
        let (ended, wait) = mpsc::channel();
        thread::spawn(move || {
            if wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                println!("WRONG  {name}\n       it does not come to an end: nothing after {limit:?}");
                process::exit(1);
            }
        });
        Self(ended)
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        let _ = self.0.send(()); // the thread that waits may be gone with the process
    }
}

fn compare<I>(
    source: &mut Draw,
    draw: fn(&mut Draw) -> Result<I>,
    expected: fn(&I) -> Result<Value>,
    answer: &impl Fn(&I) -> Result<Value>,
    tolerance: f64,
    mistakes: &[Mistake<I>],
) -> Result<Outcome> {
    let inputs = draw(source)?;
    let expected = expected(&inputs)?;
    let found = match caught(|| answer(&inputs)) {
        Ok(found) => found,
        Err(Failure::NotWritten) => return Ok(Outcome::NotWritten),
        Err(Failure::Said(message)) => return Ok(Outcome::Wrong(format!("       it fails: {message}"))),
    };
    let Some(difference) = expected.difference(&found, tolerance) else {
        return Ok(Outcome::Right);
    };
    let made = |mistake: &&Mistake<I>| match (mistake.made)(&inputs) {
        Ok(wrong) => wrong.difference(&found, tolerance).is_none(),
        Err(_) => false, // with these shapes the mistake cannot be made
    };
    let hint = mistakes
        .iter()
        .find(made)
        .map(|mistake| format!("\n       hint: {}", mistake.hint));
    Ok(Outcome::Wrong(format!(
        "       {difference}{}",
        hint.unwrap_or_default()
    )))
}

/// Why a learner's function returned nothing.
enum Failure {
    NotWritten,
    Said(String),
}

thread_local! {
    /// The message and the place of the last panic.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps panics of the learner's functions off the screen: they are reported with the function.
pub fn silence_panics() {
    panic::set_hook(Box::new(|information| {
        let place = information.location().map(|place| format!(" ({place})"));
        let payload = information.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a panic");
        PANIC.set(format!("{message}{}", place.unwrap_or_default()));
    }));
}

fn caught(answer: impl FnOnce() -> Result<Value>) -> std::result::Result<Value, Failure> {
    match panic::catch_unwind(AssertUnwindSafe(answer)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::Said(said_by_mlx(&format!("{error:#}")))),
        Err(_) => Err(match PANIC.take() {
            message if message.starts_with("not yet implemented") => Failure::NotWritten,
            message => Failure::Said(message),
        }),
    }
}

/// MLX's message without the places in its own sources that follow it.
fn said_by_mlx(message: &str) -> String {
    let end = message.find(" at /").unwrap_or(message.len());
    format!("MLX says {}", message[..end].trim_matches('"'))
}

/// A source of inputs.
pub struct Draw {
    rng: ChaCha8Rng,
    round: usize,
}

impl Draw {
    /// One of several kinds of input, in turn: with up to three of them, each occurs in every check.
    pub fn in_turn<K: Copy>(&self, kinds: &[K]) -> K {
        kinds[self.round % kinds.len()]
    }

    /// A number from `low` to `high`, both included.
    pub fn size(&mut self, low: i32, high: i32) -> i32 {
        self.rng.random_range(low..=high)
    }

    /// A random key.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn key(&mut self) -> Result<Array> {
        Ok(random::key(self.rng.next_u64())?)
    }

    /// Normal numbers of mean 0 and variance 1, of that shape.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn normal(&mut self, shape: &[i32]) -> Result<Array> {
        let key = self.key()?;
        Ok(random::normal::<f32>(shape, None, None, &key)?)
    }

    /// Ids below `below`, of that shape.
    pub fn ids(&mut self, shape: &[i32], below: i32) -> Array {
        let count: i32 = shape.iter().product();
        let ids: Vec<u32> = (0..count).map(|_| self.rng.random_range(0..below as u32)).collect();
        Array::from_slice(&ids, shape)
    }
}

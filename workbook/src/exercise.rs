//! An exercise, and the check of an answer.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, fs, process, thread};

use anyhow::{Result, bail};
use mlx_rs::{Array, random};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::input::Input;
use super::value::Value;

/// Inputs are drawn this many times: a wrong function may be right by chance once.
const DRAWS: usize = 3;

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The function returns what it should.
    Right,
    /// Its body is still `todo!()`, or that of a function that it calls.
    NotWritten(Unwritten),
    /// What differs, and a hint.
    Wrong(String),
}

/// A function whose body is still `todo!()`.
#[derive(Clone, Debug, PartialEq)]
pub struct Unwritten {
    /// Its name.
    pub function: String,
    file: String,
    line: u32,
}

impl Unwritten {
    /// The function around a line of a file, as rustfmt writes it.
    fn at(file: &str, line: u32) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        let before = text.lines().take(line as usize);
        let names = before.filter_map(|line| line.trim_start_matches("pub ").strip_prefix("fn "));
        let name = names.last().and_then(|rest| rest.split(['(', '<']).next());
        Self {
            function: name.unwrap_or("a function").to_owned(),
            file: file.to_owned(),
            line,
        }
    }

    /// The day of its file.
    pub fn day(&self) -> Option<u8> {
        let name = Path::new(&self.file).file_stem()?.to_str()?;
        name.strip_prefix("day")?.parse().ok()
    }
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not written yet ({}:{})",
            self.function, self.file, self.line
        )
    }
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
    /// number and at least to 1: what is computed from numbers around 1 has their rounding, however small it is.
    pub fn new<I: Input + 'static>(
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
        let mut draw = Draw::anew();
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

fn compare<I: Input>(
    source: &mut Draw,
    draw: fn(&mut Draw) -> Result<I>,
    expected: fn(&I) -> Result<Value>,
    answer: &impl Fn(&I) -> Result<Value>,
    tolerance: f64,
    mistakes: &[Mistake<I>],
) -> Result<Outcome> {
    let inputs = draw(source)?;
    let expected = match caught(|| expected(&inputs)) {
        Ok(expected) => expected,
        Err(Failure::Said(message)) => bail!("{message}"),
        Err(Failure::NotWritten(which)) => bail!("{which}"),
    };
    let found = match caught(|| answer(&inputs)) {
        Ok(found) => found,
        Err(Failure::NotWritten(which)) => return Ok(Outcome::NotWritten(which)),
        Err(Failure::Said(message)) => {
            return Ok(wrong(
                format!("it fails: {message}"),
                &inputs,
                hint_of_failure(&message),
            ));
        }
    };
    let Some(difference) = expected.difference(&found, tolerance) else {
        return Ok(Outcome::Right);
    };
    let made = |mistake: &&Mistake<I>| match caught(|| (mistake.made)(&inputs)) {
        Ok(wrong) => wrong.difference(&found, tolerance).is_none(),
        Err(_) => false, // with these shapes the mistake cannot be made
    };
    let hint = mistakes.iter().find(made).map(|mistake| mistake.hint);
    let hint = hint.or_else(|| difference.hint());
    Ok(wrong(difference.to_string(), &inputs, hint))
}

/// What differs, what the function was called with, and a hint.
fn wrong(what: String, inputs: &impl Input, hint: Option<&str>) -> Outcome {
    const LONGEST: usize = 150;
    let inputs = inputs.describe();
    let cut = match inputs.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{} …", &inputs[..at]),
        None => inputs,
    };
    let hint = hint.map(|hint| format!("\n       hint: {hint}"));
    Outcome::Wrong(format!(
        "       {what}\n       called with {cut}{}",
        hint.unwrap_or_default()
    ))
}

/// What helps where MLX refuses an operation, or the function panics.
fn hint_of_failure(message: &str) -> Option<&'static str> {
    let hints = [
        (
            "matmul",
            "in `a.matmul(b)` the last axis of `a` is as long as the last but one of `b`: is a transpose missing, or one too many?",
        ),
        (
            "broadcast",
            "shapes are compared from their last axis on, and two sizes fit if they are equal or one of them is 1: `…_axis(…, true)` keeps an axis that is summed over",
        ),
        ("reshape", "a reshape keeps the number of elements"),
        (
            "concatenate",
            "arrays are put together along one axis: all other axes are equal",
        ),
        ("stack", "arrays are stacked along a new axis: all their axes are equal"),
        ("transpose", "a transpose names each axis once"),
        (
            "no entry found for key",
            "weights are called `{name}.weight` and `{name}.bias`: is `name` that of the layer?",
        ),
        (
            "on a `None` value",
            "the option may be `None`, and then there is nothing to do: `match`, `if let`",
        ),
        ("index out of bounds", "the last index of a list is its length less 1"),
    ];
    let (_, hint) = hints.into_iter().find(|(word, _)| message.contains(word))?;
    Some(hint)
}

/// Why a learner's function returned nothing.
enum Failure {
    NotWritten(Unwritten),
    Said(String),
}

thread_local! {
    /// The message of the last panic, and its file and line.
    static PANIC: RefCell<(String, String, u32)> = const { RefCell::new((String::new(), String::new(), 0)) };
}

/// Keeps panics of the learner's functions off the screen: they are reported with the function.
pub fn silence_panics() {
    panic::set_hook(Box::new(|information| {
        let (file, line) = information
            .location()
            .map_or((String::new(), 0), |place| (place.file().to_owned(), place.line()));
        let payload = information.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a panic");
        PANIC.set((message.to_owned(), file, line));
    }));
}

/// The function that is not written yet, if `call` comes to one.
pub fn unwritten(call: impl FnOnce() -> Result<()>) -> Option<Unwritten> {
    match caught(call) {
        Err(Failure::NotWritten(which)) => Some(which),
        Ok(()) | Err(Failure::Said(_)) => None,
    }
}

fn caught<T>(answer: impl FnOnce() -> Result<T>) -> std::result::Result<T, Failure> {
    match panic::catch_unwind(AssertUnwindSafe(answer)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::Said(said_by_mlx(&format!("{error:#}")))),
        Err(_) => Err(match PANIC.take() {
            (message, file, line) if message.starts_with("not yet implemented") => {
                Failure::NotWritten(Unwritten::at(&file, line))
            }
            (message, file, line) => Failure::Said(match message.split_once("Exception { what: \"") {
                Some((_, what)) => format!("{}, in an operator such as `+`", said_by_mlx(what)),
                None => format!("{message} ({file}:{line})"),
            }),
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
    /// With inputs that were not drawn before.
    pub fn anew() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            rng: ChaCha8Rng::seed_from_u64(now.as_nanos() as u64),
            round: 0,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    /// MLX's words may change.
    #[test]
    fn what_mlx_refuses_has_a_hint() {
        let array = |shape: &[i32]| Array::zeros::<f32>(shape).unwrap();
        let (a, b) = (array(&[2, 3]), array(&[2, 4]));
        let refused: [(&str, mlx_rs::error::Result<Array>); 6] = [
            ("transpose missing", a.matmul(&b)),
            ("last axis on", a.add(&b)),
            ("number of elements", a.reshape(&[4])),
            ("along one axis", mlx_rs::ops::concatenate(&[&a, &b], 0)),
            ("each axis once", a.transpose_axes(&[0, 0])),
            ("along a new axis", mlx_rs::ops::stack(&[&a, &b], 0)),
        ];
        for (hint, result) in refused {
            let message = said_by_mlx(&format!("{:#}", result.unwrap_err()));
            let found = hint_of_failure(&message).unwrap_or_else(|| panic!("{message}"));
            assert!(found.contains(hint), "{message}: {found}");
        }
    }
}

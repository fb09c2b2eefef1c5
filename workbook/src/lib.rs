//! Checks a learner's own GPT-2, function by function.
//!
//! The learner's package (`mlx-gpt lesson start` makes it) hands its functions to [`main`] as [`Answers`]. Each is called with
//! inputs that are drawn anew every time, and what it returns is compared with what the course's own function returns, which the
//! days hold against PyTorch and the library. A wrong result is also compared with those of the usual mistakes, so that the hint
//! names the one that was made.
//!
//! | file | contents |
//! |---|---|
//! | `value.rs` | what a function returns, and how two of them differ |
//! | `input.rs` | what a function was called with, in words |
//! | `exercise.rs` | an exercise, and the check of an answer |
//! | `training.rs` | training of the learner's model in the library's loop |
//! | `writing.rs` | text by the learner's model, with weights of others |
//! | `batch.rs` | inputs of day 8 |
//! | `dayNN.rs` | the exercises of a day, with their usual mistakes |

mod batch;
mod day00;
mod day01;
mod day02;
mod day03;
mod day04;
mod day05;
mod day06;
mod day07;
mod day08;
mod day09;
mod day10;
mod day11;
mod day12;
mod day13;
mod day14;
mod exercise;
mod input;
mod training;
mod value;
mod writing;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
pub use day00::Day00;
pub use day01::Day01;
pub use day02::Day02;
pub use day03::Day03;
pub use day04::Day04;
pub use day05::Day05;
pub use day06::Day06;
pub use day07::Day07;
pub use day08::Day08;
pub use day09::Day09;
pub use day10::Day10;
pub use day11::Day11;
pub use day12::Day12;
pub use day13::Day13;
pub use day14::Day14;
use exercise::{Exercise, Outcome};
pub use mlx_gpt::course::day07::Shape;
pub use mlx_gpt::course::day08::Hyperparameters;
use mlx_gpt::lessons::workbook::{Progress, imports};
use training::Mine;

/// The learner's functions.
#[derive(Clone, Copy)]
pub struct Answers {
    /// Gradients.
    pub day00: Day00,
    /// Byte pairs.
    pub day01: Day01,
    /// Batches, the loss, the bigram model.
    pub day02: Day02,
    /// Embeddings, and the mean of the past.
    pub day03: Day03,
    /// One head of attention.
    pub day04: Day04,
    /// Many heads.
    pub day05: Day05,
    /// The block.
    pub day06: Day06,
    /// GPT-2.
    pub day07: Day07,
    /// A step of training.
    pub day08: Day08,
    /// Sampling, the cache, the loop.
    pub day09: Day09,
    /// Other programs' weights, and adapters.
    pub day10: Day10,
    /// A loss on some of the tokens, and sums.
    pub day11: Day11,
    /// Contamination.
    pub day12: Day12,
    /// Conversations.
    pub day13: Day13,
    /// Preferences and rewards.
    pub day14: Day14,
}

impl Answers {
    /// The exercises of a day, in the order of its file.
    fn exercises(&self, day: u8) -> Vec<Exercise> {
        match day {
            0 => self.day00.exercises(),
            1 => self.day01.exercises(),
            2 => self.day02.exercises(),
            3 => self.day03.exercises(),
            4 => self.day04.exercises(),
            5 => self.day05.exercises(),
            6 => self.day06.exercises(),
            7 => self.day07.exercises(),
            8 => self.day08.exercises(),
            9 => self.day09.exercises(),
            10 => self.day10.exercises(),
            11 => self.day11.exercises(),
            12 => self.day12.exercises(),
            13 => self.day13.exercises(),
            14 => self.day14.exercises(),
            _ => Vec::new(),
        }
    }
}

/// The optimizer that the learner writes, which is not the default.
const ADAMW: &str = "--optimizer=adamw";
/// Where `cargo run` trains.
const RUN: &str = "runs/mine";

/// The learner's program. Without arguments it trains the learner's model, or goes on; `train OPTIONS` does with options of
/// `mlx-gpt train`; `check DAY` checks a day's functions, and exits with 0 only if all are right; `write FOLDER PROMPT` continues a
/// prompt with a GPT-2 of Hugging Face's. Other commands are those of `mlx-gpt`.
pub fn main(answers: &Answers) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] if Path::new(RUN).exists() => train(answers, &["--resume", RUN]),
        [] => train(answers, &["--out", RUN, ADAMW]),
        ["train", ..]
            if words
                .iter()
                .any(|word| word.starts_with("--optimizer") || word.starts_with("--resume")) =>
        {
            train(answers, &words[1..])
        }
        ["train", ..] => train(answers, &[&words[1..], &[ADAMW]].concat()),
        ["check", day] => match day.parse() {
            Ok(day) if !answers.exercises(day).is_empty() => finish(check(answers, day)),
            _ => {
                eprintln!("error: give a day to check, 0 to 14: cargo run -- check 4");
                ExitCode::from(2)
            }
        },
        ["write", folder, prompt] => finish(writing::write(answers, Path::new(folder), prompt).map(|text| {
            println!("{text}");
            true
        })),
        _ => mlx_gpt::cli::main(),
    }
}

fn train(answers: &Answers, options: &[&str]) -> ExitCode {
    if let Some(missing) = training::unwritten(answers) {
        let day = missing.day().unwrap_or(2);
        eprintln!("error: {missing}, and training calls it; see what is missing with: cargo run -- check {day}");
        return ExitCode::FAILURE;
    }
    let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    mlx_gpt::cli::train_own(&options, Box::new(Mine::new(*answers)))
}

/// The exit code of what ended well or not, or with an error.
fn finish(result: Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line for each function of a day, and what is wrong with those that are. Whether all are right.
fn check(answers: &Answers, day: u8) -> Result<bool> {
    exercise::silence_panics();
    let exercises = answers.exercises(day);
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for exercise in &exercises {
        let (word, details) = match exercise.check() {
            Outcome::Right => {
                right.push(exercise.name.to_owned());
                ("right", String::new())
            }
            Outcome::NotWritten(which) if which.function == exercise.name => ("to do", String::new()),
            Outcome::NotWritten(which) => ("waits", format!("\n       {which}")),
            Outcome::Wrong(details) => {
                wrong.push(exercise.name);
                ("WRONG", format!("\n{details}"))
            }
        };
        println!("{word}  {}{details}", exercise.name);
    }
    let all = right.len() == exercises.len();
    if all {
        println!("\nDay {day} is done.");
    } else {
        say_what_to_mend_first(answers, day, &wrong)?;
    }
    let folder = env::current_dir()?;
    Progress::read(&folder).record(&folder, day, right)?;
    Ok(all)
}

/// A function may be wrong only because one that it calls is: of an earlier day, or above it.
fn say_what_to_mend_first(answers: &Answers, day: u8, wrong: &[&str]) -> Result<()> {
    for (earlier, name) in imports(day)? {
        let exercises = answers.exercises(earlier);
        let called = exercises.iter().find(|exercise| exercise.name == name);
        if called.is_some_and(|exercise| exercise.check() != Outcome::Right) {
            println!("\nDay {day} calls `{name}` of day {earlier}, which is not right: mend that first.");
            return Ok(());
        }
    }
    if let [first, _, ..] = wrong {
        println!("\nMend `{first}` first: what calls it is wrong with it.");
    }
    Ok(())
}

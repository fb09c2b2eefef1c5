//! `mlx-gpt lesson start`, `check --mine`, `reset` and `solution`: the learner's own package.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::course;
use crate::lessons::workbook::{Part, WORKBOOK_FOLDER, Workbook, exercises};
use crate::terminal::console::{self, confirm, fitting, program, quoted, say};

/// A day of a workbook.
#[derive(Args)]
pub struct DayOptions {
    /// The day, 0 to 14
    #[arg(value_name = "DAY")]
    day: u8,
    /// The workbook's folder
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, default_value = WORKBOOK_FOLDER, default_missing_value = WORKBOOK_FOLDER)]
    mine: PathBuf,
}

/// Makes a workbook.
pub fn start(folder: &Path) -> Result<ExitCode> {
    Workbook::start(folder, course::LESSONS.iter().map(|lesson| lesson.day))?;
    let (mine, with) = match folder == Path::new(WORKBOOK_FOLDER) {
        true => (String::new(), String::new()),
        false => (format!(" {}", quoted(folder)), format!(" --mine {}", quoted(folder))),
    };
    let program = program();
    let lines = [
        (format!("{program} lesson 1{with}"), "the chapter of the first day"),
        (
            format!("edit {}", folder.join("src/day01.rs").display()),
            "what you write; README.md beside it has Rust for those who know PyTorch",
        ),
        (
            format!("{program} lesson check 1 --mine{mine}"),
            "what is right, what is not, and why",
        ),
        (
            format!("{program} lesson watch{with}"),
            "the same at every save; h shows a hint",
        ),
        (
            format!("{program} lesson reset 1{with}"),
            "empty functions again; what you wrote is kept",
        ),
        (
            format!("{program} lesson solution 1{with}"),
            "the day's functions, if you are stuck",
        ),
    ];
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    let lines = lines.map(|(command, what)| format!("    {command:<width$}  {what}\n"));
    console::print(format_args!(
        "{} is your own GPT-2, a file a day. Its functions say `todo!()`: write them, day by day.\n\n{}",
        folder.display(),
        lines.concat()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints how many functions of each day are right, if there is a workbook in that folder.
pub fn print_progress(folder: &Path) -> Result<()> {
    let Ok(workbook) = Workbook::open(folder) else {
        return Ok(());
    };
    let progress = workbook.progress();
    let mut days = Vec::new();
    for lesson in course::LESSONS.iter().filter(|lesson| progress.right(lesson.day) > 0) {
        let all = exercises(lesson.day)?.len();
        days.push(format!("{} of {all} of day {}", progress.right(lesson.day), lesson.day));
    }
    let right = if days.is_empty() {
        "nothing yet".into()
    } else {
        days.join(", ")
    };
    console::print(fitting(&format!("\nright in {}: {right}\n", folder.display()), 4))
}

/// Compiles a workbook and checks a day's functions: exit code 0 only if all of them are right.
pub fn check(day: u8, folder: &Path) -> Result<ExitCode> {
    course::find(day)?;
    let workbook = Workbook::open(folder)?;
    announce_build(&workbook);
    let status = checking(day, &workbook).status().context(NO_CARGO)?;
    match status.code() {
        Some(RIGHT) => Ok(ExitCode::SUCCESS),
        Some(WRONG) => Ok(ExitCode::FAILURE),
        _ if !builds(&workbook)? => bail!(
            "{} cannot be built yet: what Rust or Cargo says is above",
            folder.display()
        ),
        _ => bail!("a function of day {day} ended the check ({status}): what it says is above"),
    }
}

/// What the check of a day says, or Rust's messages.
pub fn checked(day: u8, workbook: &Workbook) -> Result<String> {
    announce_build(workbook);
    let output = checking(day, workbook).output().context(NO_CARGO)?;
    let said = match output.status.code() {
        Some(RIGHT | WRONG) => output.stdout,
        _ => [output.stdout, output.stderr].concat(),
    };
    Ok(String::from_utf8_lossy(&said).into_owned())
}

const NO_CARGO: &str = "cargo cannot be started; install Rust from https://rustup.rs";
/// The check's exit code where all functions are right.
const RIGHT: i32 = 0;
/// That where one is not. Others are Cargo's, or those of a program that is ended.
const WRONG: i32 = 1;

/// Builds a workbook, and checks a day of it.
fn checking(day: u8, workbook: &Workbook) -> Command {
    let mut cargo = cargo(workbook);
    cargo.args(["run", "--quiet", "--", "check", &day.to_string()]);
    cargo
}

/// Whether a workbook can be built.
fn builds(workbook: &Workbook) -> Result<bool> {
    let output = cargo(workbook).args(["build", "--quiet"]).output().context(NO_CARGO)?;
    Ok(output.status.success())
}

/// In the workbook's folder, so that Cargo reads its configuration.
fn cargo(workbook: &Workbook) -> Command {
    let mut command = Command::new("cargo");
    // What an outer `cargo run` says of its own package would have Cargo build other crates anew.
    let by_cargo = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_PRIMARY_",
        "OUT_DIR",
    ];
    for (name, _) in std::env::vars_os() {
        if by_cargo.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.current_dir(workbook.folder());
    command
}

fn announce_build(workbook: &Workbook) {
    if !workbook.is_built() {
        say("building the workbook (the first time: half a minute on a quiet machine)");
    }
}

/// Empties a day's functions again.
pub fn reset(options: &DayOptions) -> Result<ExitCode> {
    course::find(options.day)?;
    replace(options, Part::Exercises)
}

/// Puts a day's solutions into a workbook.
pub fn solution(options: &DayOptions) -> Result<ExitCode> {
    course::find(options.day)?;
    let workbook = Workbook::open(&options.mine)?;
    let untried = !workbook.is_begun(options.day)?;
    let question = format_args!(
        "You have not tried day {} yet ({}). Put the solutions in?",
        options.day,
        exercises(options.day)?.join(", ")
    );
    if untried && confirm(question)? == Some(false) {
        return Ok(ExitCode::SUCCESS);
    }
    replace(options, Part::Solutions)
}

fn replace(options: &DayOptions, part: Part) -> Result<ExitCode> {
    let workbook = Workbook::open(&options.mine)?;
    let kept = workbook.replace(options.day, part)?;
    let file = workbook.day(options.day);
    let what = match part {
        Part::Exercises => "has empty functions again",
        Part::Solutions => "has the solutions",
    };
    let kept = kept.map(|kept| format!("; what was there is in {}", kept.display()));
    console::print(format_args!("{} {what}{}\n", file.display(), kept.unwrap_or_default()))?;
    Ok(ExitCode::SUCCESS)
}

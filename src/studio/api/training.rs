//! Starts, stops and resumes trainings: processes of this same program, which outlive the server.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};

use super::text;
use crate::checkpoint::run::Run;
use crate::checkpoint::runs::{self, RUNS};
use crate::config::Preset;
use crate::disk::durable;
use crate::studio::http::answer::{self, Failure};
use crate::studio::http::body;
use crate::studio::openai::integer;

/// Longest text that a page may send; a longer one is for `train --corpus`.
pub const TEXT_BYTES: usize = 16 << 20;

/// Longest name of a run.
const NAME_BYTES: usize = 64;

/// Most steps of a training that a page may start.
const STEPS: u64 = 1_000_000;

/// Trainings at once, whoever started them: they share one machine.
const TRAININGS: usize = 4;

/// Most minutes of a training that a page may start: a day.
const MINUTES: u64 = 24 * 60;

/// Texts of trainings that pages started, and their messages, below the folder of runs.
const TEXTS: &str = ".texts";
const LOGS: &str = ".logs";

/// How long a page's training is.
#[derive(Clone, Copy)]
pub(super) enum Goal {
    /// The best model for its text in these minutes.
    Minutes(u64),
    /// A preset for so many steps.
    Steps(Preset, u64),
}

impl Goal {
    /// That of a body: its `minutes`, or `preset` and `steps`.
    ///
    /// # Errors
    /// A number out of range, or a preset that a page does not offer.
    pub(super) fn of(body: &Map<String, Value>) -> Result<Self, Failure> {
        if body.contains_key("minutes") {
            return Ok(Self::Minutes(integer(body, "minutes", 0, 1..=MINUTES)?));
        }
        // Those that fit the machine of a page's user.
        let preset = match text(body, "preset", NAME_BYTES)? {
            "nano" => Preset::Nano,
            "baby" => Preset::Baby,
            _ => return Err(Failure::param("preset", "preset must be one of nano, baby")),
        };
        Ok(Self::Steps(preset, integer(body, "steps", 2000, 1..=STEPS)?))
    }

    fn options(self) -> Vec<String> {
        match self {
            Self::Minutes(minutes) => vec!["--minutes".into(), minutes.to_string()],
            Self::Steps(preset, steps) => {
                let preset = if preset == Preset::Nano { "nano" } else { "baby" };
                ["--preset", preset, "--steps", &steps.to_string()]
                    .map(str::to_owned)
                    .into()
            }
        }
    }
}

/// `POST /api/runs` with `name`, `text` (empty: the built-in one), and `minutes`, or `preset` and `steps`: begins a training.
///
/// # Errors
/// A parameter that is wrong, a name that is taken, too many trainings, a disk that cannot be written.
pub async fn create(request: Request) -> Result<Response, Failure> {
    // JSON writes some characters in six bytes.
    let body = body::object(request.into_body(), 2 * TEXT_BYTES).await?;
    let started = tokio::task::spawn_blocking(move || start(&body)).await;
    let id = started.map_err(|error| Failure::bad(error.to_string()))??;
    Ok(answer::ok(&json!({"run": id})))
}

fn start(body: &Map<String, Value>) -> Result<String, Failure> {
    let name = plain_name(text(body, "name", NAME_BYTES)?)?;
    let corpus = text(body, "text", TEXT_BYTES)?;
    let goal = Goal::of(body)?;
    let run = Path::new(RUNS).join(name);
    if run.exists() {
        let message = format!("there is a run {} already; choose another name", run.display());
        return Err(Failure::new(StatusCode::CONFLICT, message));
    }
    ensure_few()?;
    let mut command = program("train")?;
    if !corpus.is_empty() {
        let path = Path::new(RUNS).join(TEXTS).join(format!("{name}.txt"));
        let written = durable::make_parents(&path).and_then(|_made| durable::write_file(&path, corpus.as_bytes()));
        written.map_err(failed)?;
        command.arg("--corpus").arg(path);
    }
    command.args(goal.options()).arg("--out").arg(&run);
    detach(command, name).map_err(failed)?;
    Ok(run.to_string_lossy().into_owned())
}

/// Resumes a run.
///
/// # Errors
/// It is being trained, or there are too many trainings.
pub fn resume(run: &Run) -> Result<(), Failure> {
    if run.trainer().is_some() {
        return Err(Failure::new(StatusCode::CONFLICT, "the run is being trained already"));
    }
    ensure_few()?;
    let mut command = program("train")?;
    command.arg("--resume").arg(&run.folder);
    detach(command, &run.name()).map_err(failed)
}

/// Asks the process that trains a run to save and end.
///
/// # Errors
/// Nobody trains it.
pub fn stop(run: &Run) -> Result<(), Failure> {
    let pid = run.trainer().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let stopped = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
    stopped
        .then_some(())
        .ok_or_else(|| Failure::new(StatusCode::CONFLICT, "the run is not being trained"))
}

/// Where the messages of a run's training go, if it was started here.
///
/// # Errors
/// A name that no run can have.
pub fn log_path(id: &str) -> Result<PathBuf, Failure> {
    let name = plain_name(id.strip_prefix("runs/").unwrap_or_default())?;
    Ok(Path::new(RUNS).join(LOGS).join(format!("{name}.log")))
}

/// A name of letters, digits, `-` and `_`: it can be no path.
fn plain_name(name: &str) -> Result<&str, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let fits = (1..=NAME_BYTES).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('-');
    fits.then_some(name)
        .ok_or_else(|| Failure::param("name", "the name must be letters, digits, - and _, at most 64 of them"))
}

fn ensure_few() -> Result<(), Failure> {
    let runs = runs::list(Path::new(RUNS)).unwrap_or_default();
    let training = runs.iter().filter(|run| run.trainer().is_some()).count();
    match training < TRAININGS {
        true => Ok(()),
        false => Err(Failure::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!("{training} runs are being trained; stop one first"),
        )),
    }
}

fn failed(error: anyhow::Error) -> Failure {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, crate::error::line(&error))
}

/// A command of this program.
pub(super) fn program(command: &str) -> Result<Command, Failure> {
    let program = std::env::current_exe()
        .context("the program's path is not known")
        .map_err(failed)?;
    let mut program = Command::new(program);
    program.arg(command);
    Ok(program)
}

/// Starts a training that a Ctrl-C here does not reach, its messages in a file.
fn detach(mut command: Command, name: &str) -> Result<()> {
    let path = Path::new(RUNS).join(LOGS).join(format!("{name}.log"));
    fs::create_dir_all(durable::parent(&path))
        .map_err(anyhow::Error::from)
        .map_err(durable::not_written(&path))?;
    let log = File::create(&path)
        .map_err(anyhow::Error::from)
        .map_err(durable::not_written(&path))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("training cannot be started")?;
    // Takes its exit code, as long as this process lives.
    thread::spawn(move || child.wait());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        assert!(plain_name("my-Run_2").is_ok());
        let long = "a".repeat(65);
        for name in ["", "..", "a/b", "a\\b", ".hidden", "-out", "a b", "a\0", "ä", &long] {
            assert!(plain_name(name).is_err(), "{name}");
        }
        assert!(log_path("runs/../x").is_err() && log_path("lessons/day-03").is_err());
    }
}

//! `mlx-gpt runs`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use indicatif::{HumanBytes, HumanDuration};
use serde::Serialize;

use crate::checkpoint::run::Run;
use crate::checkpoint::runs::{self, RUNS, summarize};
use crate::terminal::console;
use crate::terminal::escape::visible;
use crate::terminal::layout::{stdout_columns, width};

/// List runs with step, loss, age, size and state
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt runs
    mlx-gpt runs --json      for programs")]
pub struct Options {
    /// The folder that holds the runs
    #[arg(default_value = RUNS)]
    folder: PathBuf,
    /// Print one JSON object, {"runs": […]}, the newest run first
    #[arg(long)]
    json: bool,
}

/// Row of the listing.
#[derive(Serialize)]
struct RunRow {
    folder: PathBuf,
    /// Step of the newest checkpoint; 0 without one.
    step: u64,
    /// Total steps of its configuration.
    steps: u64,
    best_step: Option<u64>,
    best_val_loss: Option<f64>,
    bytes: u64,
    /// Time since its last checkpoint or log line.
    age_seconds: u64,
    complete: bool,
    /// Whether there is a checkpoint, if only one at step 0.
    #[serde(skip)]
    has_checkpoint: bool,
    /// Why the run is unreadable, if it is.
    damaged: Option<String>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let rows: Vec<RunRow> = runs::list(&options.folder)?.iter().rev().map(RunRow::of).collect();
    if options.json {
        console::print(serde_json::json!({ "runs": rows }).to_string() + "\n")?;
    } else if rows.is_empty() {
        console::print(format_args!(
            "no runs in {}; start one with: mlx-gpt train\n",
            options.folder.display()
        ))?;
    } else {
        console::print(visible(&render_table(&rows, stdout_columns())))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl RunRow {
    fn of(run: &Run) -> Self {
        let empty = Self {
            folder: run.folder.clone(),
            step: 0,
            steps: 0,
            best_step: None,
            best_val_loss: None,
            bytes: 0,
            age_seconds: 0,
            complete: false,
            has_checkpoint: false,
            damaged: None,
        };
        let summary = match summarize(run) {
            Ok(summary) => summary,
            Err(error) => {
                return Self {
                    damaged: Some(format!("{error:#}")),
                    ..empty
                };
            }
        };
        let step = summary.state.as_ref().map_or(0, |state| state.step);
        let best = summary.state.as_ref().and_then(|state| state.best);
        Self {
            step,
            steps: summary.total_steps,
            best_step: best.map(|best| best.step),
            best_val_loss: best.map(|best| best.val_loss),
            bytes: summary.bytes,
            age_seconds: summary.age.as_secs(),
            complete: step > 0 && step >= summary.total_steps,
            has_checkpoint: summary.state.is_some(),
            ..empty
        }
    }

    fn state(&self) -> String {
        match self {
            Self {
                damaged: Some(error), ..
            } => format!("damaged: {error}"),
            Self { complete: true, .. } => "complete".into(),
            Self {
                has_checkpoint: false, ..
            } => "no checkpoint yet".into(),
            _ => "continue with --resume".into(),
        }
    }

    /// The columns between folder and state; empty for a damaged run.
    fn cells(&self) -> [String; 4] {
        if self.damaged.is_some() {
            return Default::default();
        }
        [
            format!("{}/{}", self.step, self.steps),
            self.best_val_loss.map_or("–".into(), |loss| format!("{loss:.4}")),
            HumanBytes(self.bytes).to_string(),
            format!("{} ago", HumanDuration(Duration::from_secs(self.age_seconds))),
        ]
    }
}

const HEADERS: [&str; 4] = ["step", "best val", "size", "last written"];

/// One line per run, or two if the terminal is too narrow.
fn render_table(rows: &[RunRow], columns: Option<usize>) -> String {
    let folder = |row: &RunRow| row.folder.display().to_string();
    let figures: Vec<[String; 4]> = rows.iter().map(RunRow::cells).collect();
    let widest =
        |heading: &str, of: &dyn Fn(usize) -> usize| (0..rows.len()).map(of).max().unwrap_or(0).max(width(heading));
    let first = widest("run", &|row| width(&folder(&rows[row])));
    let others: Vec<usize> = (0..HEADERS.len())
        .map(|column| widest(HEADERS[column], &|row| width(&figures[row][column])))
        .collect();
    let line = |name: &str, figures: &[&str], state: &str| {
        let mut line = format!("{name:<first$}");
        for (figure, width) in figures.iter().zip(&others) {
            line += &format!("  {figure:>width$}");
        }
        format!("{line}  {state}")
    };
    let mut table = vec![line("run", &HEADERS, "state")];
    for (row, figures) in rows.iter().zip(&figures) {
        table.push(line(
            &folder(row),
            &figures.each_ref().map(String::as_str),
            &row.state(),
        ));
    }
    let widest = rows.iter().zip(&table[1..]).filter(|(row, _)| row.damaged.is_none());
    let widest = widest.map(|(_, line)| width(line)).max().unwrap_or(0);
    if columns.is_none_or(|columns| widest <= columns) {
        return table.join("\n") + "\n";
    }
    let mut text = String::new();
    for (row, [step, best, size, age]) in rows.iter().zip(&figures) {
        text += &match row.damaged {
            None => format!(
                "{}  {}\n    step {step}  best val {best}  {size}  {age}\n",
                folder(row),
                row.state()
            ),
            Some(_) => format!("{}\n    {}\n", folder(row), row.state()),
        };
    }
    text
}

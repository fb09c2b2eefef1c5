//! `mlx-gpt runs`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use indicatif::{HumanBytes, HumanDuration};

use crate::checkpoint::runs::{self, RUNS, Summary, summarize};
use crate::terminal::console;
use crate::terminal::escape::visible;

/// List runs: step, loss, age, size, whether complete
#[derive(Args)]
#[command(after_long_help = "\
Example:

    mlx-gpt runs")]
pub struct Options {
    /// The folder that holds the runs
    #[arg(default_value = RUNS)]
    folder: PathBuf,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let runs = runs::list(&options.folder)?;
    if runs.is_empty() {
        console::print(format_args!(
            "no runs in {}; start one with: mlx-gpt train\n",
            options.folder.display()
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = format!(
        "{:<44} {:>15} {:>8} {:>10}  {:<14} state\n",
        "run", "step", "best val", "size", "last written"
    );
    for run in runs.iter().rev() {
        table += &match summarize(run) {
            Ok(summary) => line(&summary),
            Err(error) => format!("{:<44} damaged: {error:#}\n", run.folder.display()),
        };
    }
    console::print(visible(&table))?;
    Ok(ExitCode::SUCCESS)
}

fn line(summary: &Summary) -> String {
    let step = summary.progress.as_ref().map_or(0, |progress| progress.step);
    let best = summary.progress.as_ref().and_then(|progress| progress.best);
    let state = match step {
        0 => "no checkpoint yet",
        step if step >= summary.total_steps => "complete",
        _ => "go on with --resume",
    };
    format!(
        "{:<44} {:>15} {:>8} {:>10}  {:<14} {state}\n",
        summary.folder.display().to_string(),
        format!("{step}/{}", summary.total_steps),
        best.map_or("–".into(), |best| format!("{:.4}", best.val_loss)),
        HumanBytes(summary.bytes).to_string(),
        format!("{} ago", HumanDuration(Duration::from_secs(summary.age.as_secs())))
    )
}

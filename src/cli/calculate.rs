//! `mlx-gpt calculate`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use crate::checkpoint::runs;
use crate::checkpoint::{Checkpoint, read_state_if_any};
use crate::config::{Device, Task};
use crate::data::tasks::{calculator, result};
use crate::evaluate::task::Answers;
use crate::terminal::console::{self, say};
use crate::terminal::escape::visible;

/// Calculate with a model: its working and its result
///
/// The model of a run with `train --task calculator` writes the working of a problem digit by digit, then the result:
/// sums and differences of up to four digits, products of up to three by two digits, quotients of up to four digits by
/// one, with remainder. It may be wrong; where it is, standard error has the right result.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt calculate '347*28'
    mlx-gpt calculate '100 ÷ 7' --checkpoint runs/calculator
    mlx-gpt calculate 12-345 --json          for programs")]
pub struct Options {
    /// Two whole numbers with an operator between them: + - * /
    #[arg(value_name = "PROBLEM", allow_hyphen_values = true)]
    problem: String,
    /// A run of --task calculator, or one of its step folders [default: the newest run below runs/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Print one JSON object: problem, working, result, correct
    #[arg(long)]
    json: bool,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let problem = calculator::parse(&options.problem)?;
    Device::select_or_current(options.device)?;
    let checkpoint = runs::read_checkpoint(options.checkpoint.as_deref(), |folder| {
        let config = read_state_if_any(folder)?.and_then(|state| state.config);
        ensure!(
            config.is_some_and(|config| config.task == Some(Task::Calculator)),
            "{} is not of a run of task calculator; train one with `mlx-gpt train --task calculator`, and give it with --checkpoint",
            folder.display()
        );
        Checkpoint::load(folder)
    })?;
    let generator = checkpoint.generator()?;
    let answers = Answers::of(&generator, &checkpoint.tokenizer, vec![problem], |_| ())?.answers;
    for (problem, answer) in answers {
        let (correct, calculated) = (problem.is_right(&answer), result(&answer));
        let working = answer.strip_suffix(calculated).unwrap_or(&answer);
        let working = working.trim_end_matches('#').trim_end();
        if options.json {
            let output = json!({
                "problem": problem.prompt.trim_end_matches('='),
                "working": working,
                "result": calculated,
                "correct": correct,
            });
            console::print(format_args!("{output}\n"))?;
        } else {
            console::print(visible(&format!("{}\n{working}\n{calculated}\n", problem.prompt)))?;
        }
        if !correct {
            say(format_args!(
                "note: the model is wrong; the result is {}",
                problem.result()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

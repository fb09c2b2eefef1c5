//! `mlx-gpt lesson`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::signals::Signals;
use crate::config::Device;
use crate::config::{DEFAULT_CORPUS, Preset};
use crate::lessons::fact::{self, Finding};
use crate::lessons::lab::{LESSONS_FOLDER, Lab, Settings, Stopped};
use crate::lessons::{self, overview};
use crate::terminal::console;
use crate::train::absolute_corpus;

/// Learn how GPT-2 is built, a day at a time
///
/// A day is text to read, with arrays and numbers that are computed as you read, a model that is trained in a minute or
/// three, and exercises. It leaves its checkpoint in lessons/day-NN, with which generate and eval work. A day that was
/// stopped goes on where it was; a day that is done is shown again without training.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_long_help = "\
Examples:

    mlx-gpt lesson list                               what each day teaches, how long it takes, what is done
    mlx-gpt lesson 3                                  the third day
    mlx-gpt lesson 3 --answer                         its exercises with their answers
    mlx-gpt lesson check 3                            whether all that it claims holds
    mlx-gpt lesson compare --prompt 'ROMEO:'          one prompt through every day's model
    mlx-gpt generate --checkpoint lessons/day-03      what the third day's model says"
)]
pub struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// The day, 1 to 10
    #[arg(value_name = "DAY", required = true)]
    day: Option<u8>,
    /// Show the day's exercises with their answers, and nothing else
    #[arg(long)]
    answer: bool,
    #[command(flatten)]
    lab: LabOptions,
}

#[derive(Subcommand)]
enum Action {
    /// The days: what each teaches, minutes on this machine, whether it is done
    ///
    /// Minutes are what a day took here, or, with a ~, what it will take by a step of its model, measured now.
    List {
        #[command(flatten)]
        lab: LabOptions,
    },
    /// Check all that a day claims: shapes, equalities, losses
    Check {
        /// The day, 1 to 10
        #[arg(value_name = "DAY")]
        day: u8,
        #[command(flatten)]
        lab: LabOptions,
    },
    /// Continue one prompt with every day's model, side by side with their losses
    Compare {
        /// The text to continue
        #[arg(long, value_name = "TEXT", default_value = "\n")]
        prompt: String,
        #[command(flatten)]
        lab: LabOptions,
    },
}

#[derive(Args)]
struct LabOptions {
    /// Folder of all days' checkpoints
    #[arg(long, value_name = "DIR", default_value = LESSONS_FOLDER)]
    out: PathBuf,
    /// Text to learn from: a UTF-8 file, or a folder of them [default: Shakespeare's plays, built in]
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// Size and recipe that the days' models start from [default: nano on a CPU, baby on a GPU]
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Training steps of each model instead of the day's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    steps: Option<u64>,
    /// Decides initial weights, batches and samples
    #[arg(long, value_name = "N", default_value_t = 1337)]
    seed: u64,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let signals = Signals::register()?;
    let result = match (&options.action, options.day) {
        (Some(Action::List { lab }), _) => list(lab, &signals),
        (Some(Action::Check { day, lab }), _) => check(*day, lab, &signals),
        (Some(Action::Compare { prompt, lab }), _) => compare(prompt, lab, &signals),
        (None, day) => show(day.unwrap_or_default(), options, &signals), // clap asks for one
    };
    match result {
        Err(error) if error.is::<Stopped>() => Ok(signals.code()),
        done => done,
    }
}

fn show(day: u8, options: &Options, signals: &Signals) -> Result<ExitCode> {
    let lesson = lessons::find(day)?;
    if options.answer {
        lessons::show_answers(lesson)?;
    } else {
        lessons::run(lesson, &options.lab.open(signals)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(options: &LabOptions, signals: &Signals) -> Result<ExitCode> {
    let lab = options.open(signals)?;
    for lesson in lessons::LESSONS {
        console::print(overview::line(lesson, &lab)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(day: u8, options: &LabOptions, signals: &Signals) -> Result<ExitCode> {
    let lesson = lessons::find(day)?;
    let mut broken = 0;
    for (claim, finding, hint) in fact::check(lesson, &options.open(signals)?)? {
        let (word, measured) = match &finding {
            Finding::Holds(measured) => ("holds ", measured),
            Finding::Open(why) => ("open  ", why),
            Finding::Broken(measured) => ("BROKEN", measured),
        };
        console::print(format_args!("{word}  {claim}: {measured}\n"))?;
        if let Finding::Broken(_) = finding {
            broken += 1;
            console::print(format_args!("        look at {hint}\n"))?;
        }
    }
    anyhow::ensure!(broken == 0, "{broken} of the claims of day {day} do not hold");
    Ok(ExitCode::SUCCESS)
}

fn compare(prompt: &str, options: &LabOptions, signals: &Signals) -> Result<ExitCode> {
    overview::compare(&options.open(signals)?, prompt)?;
    Ok(ExitCode::SUCCESS)
}

impl LabOptions {
    fn open(&self, signals: &Signals) -> Result<Lab> {
        let device = match self.device {
            Some(device) => device,
            None => Device::current()?,
        };
        device.select()?;
        Lab::new(
            Settings {
                root: self.out.clone(),
                corpus: match &self.corpus {
                    Some(path) => absolute_corpus(path)?,
                    None => DEFAULT_CORPUS.into(),
                },
                preset: self.preset.unwrap_or(Preset::for_device(device)),
                device,
                steps: self.steps,
                seed: self.seed,
            },
            Box::new(signals.clone()),
        )
    }
}

//! `mlx-gpt bench sweep`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use toml::Table;

use super::recipes;
use super::signals::Signals;
use crate::measure::contest::Journal;
use crate::measure::contest::plan::SweepPlan;
use crate::measure::contest::ranking::{ranking, table};
use crate::measure::contest::sweep::{Finished, SweepRun, sweep};
use crate::terminal::console::{self, program, quoted, say};
use crate::train::Outcome;

/// Train every combination of the settings listed in a file, and rank them
///
/// Each is trained on the first nine tenths of the training text and scored by its exact final loss on the last tenth of
/// it. The validation text is not used, so that it remains an unbiased test of the choice. Only results are saved, one
/// line per training; an interrupted sweep continues when it is run again.
#[derive(Args)]
#[command(before_long_help = "\
A sweep's file: every value of a list below [grid] is combined with every value of the others; several grids are
written as [[grid]]:

    preset = \"nano\"
    seeds = [1337, 1, 2]

    [base]
    steps = 700

    [grid]
    lr = [1e-3, 2e-3, 4e-3]
    schedule = [\"cosine\", \"linear\"]

Examples:

    mlx-gpt bench sweep sweeps/muon.toml
    mlx-gpt bench sweep sweeps/muon.toml > sweeps/muon.md     keep the table")]
pub struct Options {
    /// What to train: a preset, seeds, settings for all (`[base]`) and lists of values to combine (`[grid]`), with the keys
    /// of `train --config`
    #[arg(value_name = "FILE")]
    plan: PathBuf,
    /// File of the finished trainings, one JSON object per line [default: FILE's name with .jsonl]
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let signals = Signals::register()?;
    let named = || options.plan.display().to_string();
    let plan = SweepPlan::read(&options.plan)?;
    let points = plan.points().with_context(named)?;
    let recipes: Vec<&Table> = points.iter().collect();
    let (configs, dataset) = recipes::resolve(plan.preset, &plan.base, &recipes, &plan.seeds).with_context(named)?;
    configs[0].device.select()?;
    let candidates: Vec<SweepRun> = configs
        .into_iter()
        .zip(points.iter().cycle())
        .map(|(config, point)| SweepRun {
            settings: point.clone(),
            config,
        })
        .collect();

    let beside = options.plan.with_extension("jsonl");
    let results = options.results.as_ref().unwrap_or(&beside);
    let mut journal = Journal::<Finished>::open(results)?;
    let outcome = sweep(&candidates, &dataset, &mut journal, &signals)?;
    let ranking = ranking(&candidates, journal.lines(), &dataset.record()?);
    if options.json {
        let output = json!({ "results": results, "ranking": ranking });
        console::print(format_args!("{output}\n"))?;
    } else {
        console::print(table(&ranking))?;
    }
    Ok(match outcome {
        Outcome::Finished => ExitCode::SUCCESS,
        Outcome::Stopped => {
            say(format_args!(
                "interrupted; continue with: {} bench sweep {} --results {}",
                program(),
                quoted(&options.plan),
                quoted(results)
            ));
            signals.code()
        }
    })
}

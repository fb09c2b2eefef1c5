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
use crate::measure::contest::sweep::{Candidate, Finished, sweep};
use crate::terminal::console::{self, program, quoted, say};
use crate::train::Outcome;

/// Train every combination of settings that a file lists, and rank them
///
/// Each is trained on the first nine tenths of the training text and scored by its exact loss, after its last step, on the
/// last tenth of it; the validation text plays no part, so that it can still judge what was chosen. Nothing is saved but
/// a line for each training that is done: a sweep that was stopped goes on there when it is called again.
#[derive(Args)]
#[command(after_long_help = "\
A file of a sweep, in which every list below [grid] is combined with every other; several grids are [[grid]], one after the
other:

    preset = \"nano\"
    seeds = [1337, 1, 2]

    [base]
    steps = 700

    [grid]
    lr = [1e-3, 2e-3, 4e-3]
    schedule = [\"cosine\", \"linear\"]

Examples:

    mlx-gpt bench sweep sweeps/muon.toml
    mlx-gpt bench sweep sweeps/muon.toml > sweeps/muon.md     keep its table")]
pub struct Options {
    /// What to train: a preset, seeds, settings of all (`[base]`) and lists of settings to combine (`[grid]`), with the
    /// keys of `train --config`
    #[arg(value_name = "FILE")]
    plan: PathBuf,
    /// Where the trainings that are done are kept, a JSON object a line [default: FILE's name with .jsonl]
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
    let candidates: Vec<Candidate> = configs
        .into_iter()
        .zip(points.iter().cycle())
        .map(|(config, point)| Candidate {
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
                "stopped; go on with: {} bench sweep {} --results {}",
                program(),
                quoted(&options.plan),
                quoted(results)
            ));
            signals.code()
        }
    })
}

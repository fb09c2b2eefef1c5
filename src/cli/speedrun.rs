//! `mlx-gpt bench speedrun`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use toml::{Table, Value};

use super::recipes;
use super::signals::Signals;
use crate::disk::durable;
use crate::measure::contest::Journal;
use crate::measure::contest::plan::SpeedrunPlan;
use crate::measure::contest::plot::speedrun_curves;
use crate::measure::contest::speedrun::{Race, Runner, relevant_races, speedrun};
use crate::measure::contest::standings::Standings;
use crate::terminal::console::{self, quoted, say};
use crate::train::Outcome;

/// Time recipes to a validation loss
///
/// Trains every recipe of a file with every seed, and evaluates the exact loss on the whole validation text along the way.
/// Only training steps are timed, after compilation, without evaluations. Prints steps and seconds to the target, and
/// plots loss against time. Finished curves are kept in the folder of --out, which may also hold those of other
/// programs: `make speedrun` puts PyTorch's there first.
#[derive(Args)]
#[command(before_long_help = "\
A file of recipes, with the keys of `train --config`:

    preset = \"nano\"
    seeds = [1337, 1, 2]

    [[recipe]]
    name = \"plain\"
    optimizer = \"adamw\"

    [[recipe]]
    name = \"modern\"
    arch = \"modern\"
    steps = 250

Examples:

    mlx-gpt bench speedrun sweeps/speedrun.toml --out speedrun/shakespeare
    mlx-gpt bench speedrun sweeps/speedrun.toml --corpus data/tinyshakespeare.txt --target 1.90 --out speedrun/tiny")]
pub struct Options {
    /// What to train: a preset, seeds, settings for all recipes (`[base]`), and named recipes (`[[recipe]]`)
    #[arg(value_name = "FILE")]
    plan: PathBuf,
    /// Text to train on, instead of the file's
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// Target loss [default: the highest final loss of the file's first recipe over its seeds]
    #[arg(long, value_name = "LOSS", value_parser = loss)]
    target: Option<f64>,
    /// Seeds, separated by commas, instead of the file's
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seeds: Option<Vec<u64>>,
    /// Evaluations during each new training
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    evaluations: u64,
    /// Folder of curves.jsonl, one training per line, and curves.svg; trainings that are in it are not repeated
    #[arg(long, value_name = "DIR", default_value = "speedrun")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn loss(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(loss) if loss > 0.0 && loss < 1e6 => Ok(loss),
        _ => Err("a loss is a number above 0, such as 1.9".into()),
    }
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let signals = Signals::register()?;
    let named = || options.plan.display().to_string();
    let mut plan = SpeedrunPlan::read(&options.plan)?;
    if let Some(corpus) = &options.corpus {
        plan.base.insert("corpus".into(), Value::String(corpus.clone()));
    }
    let seeds = options.seeds.as_ref().unwrap_or(&plan.seeds);
    let recipes: Vec<&Table> = plan.recipes.iter().map(|recipe| &recipe.settings).collect();
    let (configs, dataset) = recipes::resolve(plan.preset, &plan.base, &recipes, seeds).with_context(named)?;
    configs[0].device.select()?;
    let runners: Vec<Runner> = configs
        .into_iter()
        .zip(plan.recipes.iter().cycle())
        .map(|(config, recipe)| Runner {
            name: recipe.name.clone(),
            config,
        })
        .collect();

    let mut journal = Journal::<Race>::open(&options.out.join("curves.jsonl"))?;
    for (number, race) in journal.lines().iter().enumerate() {
        ensure!(
            race.is_plausible(),
            "line {} of {} has implausible times or losses; correct it, or move the file away",
            number + 1,
            journal.path().display()
        );
    }
    if speedrun(&runners, &dataset, options.evaluations, &mut journal, &signals)? == Outcome::Stopped {
        say(format_args!(
            "interrupted; run it again with --out {} to continue",
            quoted(&options.out)
        ));
        return Ok(signals.code());
    }
    let races = relevant_races(&runners, &dataset.record()?, journal.lines());
    let standings = Standings::new(&races, options.target)?;
    let title = format!("{}, loss against time", dataset.name());
    let picture = speedrun_curves(&title, &races, standings.target)?;
    let curves = options.out.join("curves.svg");
    durable::write_file(&curves, picture.as_bytes())?;
    if options.json {
        let output = json!({ "curves": journal.path(), "picture": curves, "result": standings });
        return console::print(format_args!("{output}\n")).map(|()| ExitCode::SUCCESS);
    }
    say(format_args!("curves   {}", curves.display()));
    console::print(standings.table())?;
    Ok(ExitCode::SUCCESS)
}

//! `mlx-gpt bench scaling`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use super::bench::Timing;
use crate::disk::durable;
use crate::measure::bench::machine::Machine;
use crate::measure::bench::timing::Rounds;
use crate::measure::bench::{scaling, scaling_plot};
use crate::terminal::console::{self, say};
use crate::terminal::table::markdown;

/// Timed steps per point: the largest takes a second on two cores, and there are 19 points.
const STEPS: usize = 5;

/// Measure how the time of a training step scales
///
/// Starting from the preset nano, varies batch, context, width and vocabulary one at a time, reports how the step time
/// scales with each, and draws a log-log plot, where a power law is a straight line. Takes two or three minutes.
#[derive(Args)]
pub struct Options {
    /// File of the plot (SVG)
    #[arg(long, value_name = "FILE", default_value = "bench-scaling.svg")]
    out: PathBuf,
    #[command(flatten)]
    timing: Timing,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        options.out.file_name().is_some() && !options.out.is_dir(),
        "--out {} is a folder; give the name of a file",
        options.out.display()
    );
    let (device, threads) = options.timing.select()?;
    let rounds = options.timing.rounds().unwrap_or(Rounds::Exactly(STEPS));
    let lines = scaling::measure(rounds, device, threads)?;
    let machine = Machine::this(device, threads);
    let title = format!(
        "A training step on {} ({device}, {threads} thread(s))",
        machine.processor
    );
    let _made = durable::make_parents(&options.out)?;
    durable::write_file(&options.out, scaling_plot::draw(&title, &lines)?.as_bytes())?;
    if options.json {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| {
                let scaling::ScalingCurve { of, points, exponent, last_exponent } = line;
                json!({
                    "of": of, "points": points, "exponent": exponent, "last_exponent": last_exponent, "words": line.words()
                })
            })
            .collect();
        console::print(format_args!("{}\n", json!({"machine": machine, "scaling": lines})))?;
    } else {
        for line in &lines {
            let rows = line
                .points
                .iter()
                .map(|point| vec![point.size.to_string(), format!("{:.1}", point.milliseconds)]);
            console::print(format_args!(
                "{}\n{}\n",
                markdown(&[line.of, "ms a step"], rows),
                line.words()
            ))?;
        }
    }
    say(format_args!("plot     {}", options.out.display()));
    Ok(ExitCode::SUCCESS)
}

//! `mlx-gpt bench distributed`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::Result;
use clap::Args;

use super::hosts;
use super::ranks;
use super::signals::Signals;
use crate::compute::ranks::{Backend, Ranks};
use crate::config::{Device, Preset, TrainConfig};
use crate::data::dataset::Dataset;
use crate::measure::bench::distributed::{Distributed, SYNC_EVERY};
use crate::terminal::console;
use crate::terminal::table::markdown;

/// Measure messages between machines, and predict training on more of them
///
/// Times sums of several sizes over all ranks, a training step on each rank alone, and one that all share; fits the latency
/// and the bandwidth of the network, and predicts the time of a step and its efficiency for 1 to 64 ranks. Started alone, it
/// measures two processes on this machine; start it with mpirun or --hosts as `train` for others.
#[derive(Args)]
pub struct Options {
    /// Size to train
    #[arg(long, value_enum, default_value = "nano")]
    preset: Preset,
    /// Rows of a batch [default: the preset's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    batch_size: Option<u32>,
    /// Timed messages of each size, and timed steps
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: u32,
    /// CPU threads of each process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// How the processes are connected
    #[arg(long, value_enum, value_name = "BACKEND", default_value = "any")]
    distributed: Backend,
    /// Start a process on each host of this file
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let signals = Signals::register()?;
    if let Some(file) = &options.hosts {
        return hosts::launch(&hosts::read(file)?, &signals);
    }
    match ranks::join(options.distributed)? {
        Some(ranks) => {
            let result = measure(&ranks, options);
            ranks::finish(&ranks, result)
        }
        None => hosts::launch(&hosts::here(2), &signals),
    }
}

fn measure(ranks: &Rc<Ranks>, options: &Options) -> Result<ExitCode> {
    let device = Device::select_or_current(options.device)?;
    let preset = options.preset.train_config(device);
    let config = TrainConfig {
        batch_size: options.batch_size.map_or(preset.batch_size, |rows| rows as usize),
        grad_accum: 1,
        threads: options.threads as usize,
        ..preset
    };
    let dataset = Dataset::open(&config.corpus)?;
    let vocab_size = dataset.tokenizer(&config.tokenizer)?.vocab_size();
    let measured = Distributed::measure(ranks, &config, vocab_size, options.steps as usize)?;
    if !ranks.is_first() {
        return Ok(ExitCode::SUCCESS);
    }
    if options.json {
        console::print(serde_json::to_string(&measured)? + "\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let messages = measured.messages.iter();
    let rows = messages.map(|message| {
        vec![
            format!("{} KiB", message.bytes >> 10),
            format!("{:.2}", message.milliseconds),
        ]
    });
    console::print(format_args!("{}\n", markdown(&["message", "ms"], rows)))?;
    console::print(format_args!("{}\n\n", measured.words()))?;
    let rows = measured.predictions.iter().map(|predicted| {
        let with_efficiency = |ms: f64, work: f64| {
            let efficiency = work * measured.one_rank / (predicted.ranks as f64 * ms);
            format!("{ms:.1} ({:.0} %)", 100.0 * efficiency)
        };
        let many = predicted.ranks as f64;
        vec![
            predicted.ranks.to_string(),
            predicted.same_batch.map_or("–".into(), |ms| with_efficiency(ms, 1.0)),
            with_efficiency(predicted.grown_batch, many),
            with_efficiency(predicted.apart, many),
        ]
    });
    let apart = format!("the same, --sync-every {SYNC_EVERY}");
    let head = [
        "ranks",
        "ms a step (efficiency), the same batch",
        "a batch for each rank",
        &apart,
    ];
    console::print(markdown(&head, rows))?;
    Ok(ExitCode::SUCCESS)
}

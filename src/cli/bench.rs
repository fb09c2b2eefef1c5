//! `mlx-gpt bench`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{distributed, scaling, speedrun, sweep};
use crate::compute::kernels::{self, BlasThroughput, Compiler, NO_COMPILER};
use crate::config::{Device, Preset, default_threads};
use crate::measure::bench::timing::Rounds;
use crate::measure::bench::{self, BenchSection, table};
use crate::terminal::console;

/// Benchmark training and generation on this machine
///
/// Takes a minute or two for all three sizes. Figures are medians after a warm-up; run it on an idle machine.
///
/// Training: tokens a second; milliseconds a step for data, for the step itself and, averaged over the steps between
/// them, for evaluation and for logging; the peak memory of MLX's arrays. A token costs
/// 6 N + 12 · layers · embd · context floating-point operations (Chowdhery et al. 2022, appendix B), where N is the
/// number of parameters without position embeddings. The rate is also given as a percentage of this machine's peak for
/// products of large float32 matrices, measured in the same run.
///
/// Generation: the time to the first token after a prompt of 8 tokens, and tokens a second. Each token reads N float32
/// weights; the rate is also given as a percentage of this machine's memory bandwidth.
///
/// On a CPU under Linux the first lines say whether this program's own kernels are in effect; set MLX_GPT_KERNELS=off
/// in the environment to measure MLX's.
///
/// Training uses AdamW: nano and baby with their presets' recipes, baby with a batch of 8 on a CPU, and OpenAI's sizes
/// with a batch of 4 rows of 64 tokens, as llm.c does on a CPU.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    before_long_help = "\
Examples:

    mlx-gpt bench                                nano, baby and gpt2
    mlx-gpt bench --preset nano --json           one size, for programs
    mlx-gpt bench --only training --threads 1    only training, on one thread
    mlx-gpt bench scaling                        how step time scales with batch, context, width and vocabulary
    mlx-gpt bench sweep sweeps/muon.toml         which learning rates are best
    mlx-gpt bench speedrun sweeps/speedrun.toml  time of recipes to a target loss
    mlx-gpt bench distributed                    messages between two processes, and training on up to 64 machines"
)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    speed: SpeedOptions,
}

#[derive(Subcommand)]
enum Command {
    Scaling(scaling::Options),
    Sweep(sweep::Options),
    Speedrun(speedrun::Options),
    Distributed(distributed::Options),
}

#[derive(Args)]
struct SpeedOptions {
    /// Sizes to measure, separated by commas; may be repeated
    #[arg(long, value_enum, value_delimiter = ',', default_value = "nano,baby,gpt2")]
    preset: Vec<Preset>,
    /// What to measure, separated by commas; may be repeated; percentages of the machine's peak need `machine`
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "machine,training,generation"
    )]
    only: Vec<BenchSection>,
    #[command(flatten)]
    timing: Timing,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How many steps are timed, and where.
#[derive(Args)]
pub(super) struct Timing {
    /// Steps to time [default: as many as fit into ten seconds, 5 to 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    steps: Option<u64>,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// CPU threads, among which a batch's rows are divided [default: all cores; 1 on a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
}

impl Timing {
    pub fn rounds(&self) -> Option<Rounds> {
        self.steps.map(|steps| Rounds::Exactly(steps as usize))
    }

    /// Selects the device for MLX; returns it and the number of threads.
    ///
    /// # Errors
    /// MLX has no such device here.
    pub fn select(&self) -> Result<(Device, usize)> {
        let device = Device::select_or_current(self.device)?;
        let threads = self.threads.map_or(default_threads(device), |threads| threads as usize);
        Ok((device, threads))
    }
}

pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.command {
        Some(Command::Scaling(options)) => scaling::run(options),
        Some(Command::Sweep(options)) => sweep::run(options),
        Some(Command::Speedrun(options)) => speedrun::run(options),
        Some(Command::Distributed(options)) => distributed::run(options),
        None => speed(&options.speed),
    }
}

/// Warns about a slow BLAS or a missing compiler, which lower the CPU's figures.
fn warn_of_slow_arithmetic() {
    if let (Some(blas), Some(rate)) = (kernels::blas(), BlasThroughput::measure())
        && let Some(hint) = rate.hint()
    {
        console::warn(format_args!("{blas}: {rate}; {hint}"));
    }
    if kernels::compiler() == Some(Compiler::Missing) {
        console::warn(NO_COMPILER);
    }
}

fn speed(options: &SpeedOptions) -> Result<ExitCode> {
    let (device, threads) = options.timing.select()?;
    if device == Device::Cpu {
        warn_of_slow_arithmetic();
    }
    let report = bench::measure(&bench::BenchOptions {
        presets: options.preset.clone(),
        sections: options.only.clone(),
        rounds: options.timing.rounds().unwrap_or(Rounds::TimeBudget),
        device,
        threads,
    })?;
    if options.json {
        console::print(serde_json::to_string(&report)? + "\n")?;
    } else {
        console::print(table::report(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

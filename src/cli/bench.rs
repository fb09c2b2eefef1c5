//! `mlx-gpt bench`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{scaling, speedrun, sweep};
use crate::compute::kernels::{self, BlasRate, Compiler, NO_COMPILER};
use crate::config::Device;
use crate::config::{Preset, default_threads};
use crate::measure::bench::timing::Rounds;
use crate::measure::bench::{self, Part, table};
use crate::terminal::console;

/// Measure how fast this machine trains and writes
///
/// Takes a minute or two for all three sizes. Figures are medians after a warm-up; other work on the machine spoils them.
///
/// Training: tokens a second; the milliseconds that a step takes for its data, for the step itself, and, spread over the
/// steps between, for evaluations and for logging; the most memory that MLX's arrays take at once. A token costs
/// 6 N + 12 · layers · embd · context floating-point operations (Chowdhery et al. 2022, appendix B), N being the
/// parameters without position embeddings. Their rate is given as a share of the one that products of large float32
/// matrices reach here, measured in the same run.
///
/// Writing: the time to the first token after a prompt of 8, and tokens a second. Each token reads N float32 weights;
/// that rate is given as a share of the one that memory is read at here.
///
/// On a CPU under Linux the first lines say whether this program's own kernels are in effect; with MLX_GPT_KERNELS=off in the
/// environment MLX's are measured.
///
/// Training is with AdamW, of nano and baby as their presets say, baby with 8 rows on a CPU, and OpenAI's sizes with 4 rows of 64
/// tokens, as llm.c does on a CPU.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    before_long_help = "\
Examples:

    mlx-gpt bench                                nano, baby and gpt2
    mlx-gpt bench --preset nano --json           one size, for programs
    mlx-gpt bench --only training --threads 1    training alone, on one thread
    mlx-gpt bench scaling                        how a step's time grows with batch, context, width, vocabulary
    mlx-gpt bench sweep sweeps/muon.toml         which rates are best
    mlx-gpt bench speedrun sweeps/speedrun.toml  how soon recipes reach a loss"
)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    speed: Speed,
}

#[derive(Subcommand)]
enum Command {
    Scaling(scaling::Options),
    Sweep(sweep::Options),
    Speedrun(speedrun::Options),
}

#[derive(Args)]
struct Speed {
    /// Sizes to measure, with commas between or several times
    #[arg(long, value_enum, value_delimiter = ',', default_value = "nano,baby,gpt2")]
    preset: Vec<Preset>,
    /// What to measure, with commas between or several times; without the machine there are no shares of it
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "machine,training,generation"
    )]
    only: Vec<Part>,
    #[command(flatten)]
    timing: Timing,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How long something is timed, and where.
#[derive(Args)]
pub(super) struct Timing {
    /// Steps to time [default: what fits into ten seconds, 5 to 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    steps: Option<u64>,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// CPU threads that share a batch's rows [default: all cores; 1 on a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
}

impl Timing {
    pub fn rounds(&self) -> Option<Rounds> {
        self.steps.map(|steps| Rounds::Exactly(steps as usize))
    }

    /// Makes the device MLX's, and says how many threads work.
    ///
    /// # Errors
    /// MLX has no such device here.
    pub fn select(&self) -> Result<(Device, usize)> {
        let device = match self.device {
            Some(device) => device,
            None => Device::current()?,
        };
        device.select()?;
        let threads = self.threads.map_or(default_threads(device), |threads| threads as usize);
        Ok((device, threads))
    }
}

pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.command {
        Some(Command::Scaling(options)) => scaling::run(options),
        Some(Command::Sweep(options)) => sweep::run(options),
        Some(Command::Speedrun(options)) => speedrun::run(options),
        None => speed(&options.speed),
    }
}

/// Says what makes figures of the CPU lower than they need be.
fn warn_of_slow_arithmetic() {
    if let (Some(blas), Some(rate)) = (kernels::blas(), BlasRate::measure())
        && let Some(remedy) = rate.remedy()
    {
        console::warn(format_args!("{blas}: {rate}; {remedy}"));
    }
    if kernels::compiler() == Some(Compiler::Missing) {
        console::warn(NO_COMPILER);
    }
}

fn speed(options: &Speed) -> Result<ExitCode> {
    let (device, threads) = options.timing.select()?;
    if device == Device::Cpu {
        warn_of_slow_arithmetic();
    }
    let report = bench::measure(&bench::Settings {
        presets: options.preset.clone(),
        parts: options.only.clone(),
        rounds: options.timing.rounds().unwrap_or(Rounds::AsTimeAllows),
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

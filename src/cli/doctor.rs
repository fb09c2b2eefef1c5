//! `mlx-gpt doctor`.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use super::VERSION;
use crate::checkpoint::runs::find_checkpoint;
use crate::config::Device;
use crate::measure::doctor::Check;
use crate::measure::{accuracy, doctor};
use crate::terminal::console::{self, fitting};
use crate::terminal::escape::visible;
use crate::terminal::table::markdown;

/// Check this machine, and suggest a fix for what is missing or damaged
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt doctor                         check the machine
    mlx-gpt doctor --checkpoint runs/x     and verify that checkpoint
    mlx-gpt doctor --compute               and the numbers that the device computes (about a minute)
    mlx-gpt doctor --json                  for programs")]
pub struct Options {
    /// Also verify this checkpoint: every file against its recorded hash, then load it
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Check this device of MLX's [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// Compare what this device computes with MLX's own operations on the CPU: logits, every gradient, a short training,
    /// greedy text and dropout masks, in each number format; exit code 1 if any difference exceeds its tolerance
    #[arg(long)]
    compute: bool,
    /// Compute the reference of --compute into this file.
    #[arg(long, value_name = "FILE", hide = true, conflicts_with = "compute")]
    reference_to: Option<PathBuf>,
    /// Print one JSON object: versions, checks (`findings`) with their fixes (`remedy`), and whether all checks passed (`healthy`)
    #[arg(long, conflicts_with_all = ["compute", "reference_to"])]
    json: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some(file) = &options.reference_to {
        Device::Cpu.select()?;
        accuracy::reference::write(&accuracy::answers(|_| {})?, file)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !options.json {
        console::print(format_args!("mlx-gpt     {VERSION}\n"))?;
    }
    Device::select_or_current(options.device)?;
    let mut checks = doctor::machine();
    if let Some(path) = &options.checkpoint {
        checks.push(doctor::checkpoint(&find_checkpoint(Some(path))?));
    }
    let healthy = checks.iter().all(|check| check.fix.is_none());
    if options.json {
        let (version, mlx) = (env!("CARGO_PKG_VERSION"), env!("MLX_VERSION"));
        let report = json!({ "version": version, "mlx": mlx, "findings": checks, "healthy": healthy });
        console::print(report.to_string() + "\n")?;
    } else {
        checks.iter().try_for_each(show)?;
    }
    // Even if another check failed: the numbers are checked independently.
    if options.compute {
        compare_with_reference()?;
    }
    ensure!(
        healthy,
        "something is missing or damaged; see the suggested fixes above"
    );
    if !options.json {
        console::print("all checks passed\n")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(check: &Check) -> Result<()> {
    let mark = if check.fix.is_none() { "" } else { "PROBLEM: " };
    let line = format!("{:<11} {mark}{}\n", check.what, visible(&check.found));
    console::print(fitting(&line, 12))?;
    match &check.fix {
        Some(fix) => console::print(format_args!("            fix it with: {fix}\n")),
        None => Ok(()),
    }
}

/// Compares this device's results with those of MLX's own operations on the CPU, computed in a second process.
fn compare_with_reference() -> Result<()> {
    let folder = tempfile::tempdir().context("a temporary folder could not be created")?;
    let file = folder.path().join("reference.safetensors");
    let mut reference = Command::new(std::env::current_exe().context("this program's own file cannot be found")?)
        .args(["doctor", "--reference-to"])
        .arg(&file)
        .env("MLX_GPT_KERNELS", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("a second process cannot be started")?;
    let computed = accuracy::answers(|what| console::say(format_args!("computing {what}")));
    if computed.is_err() {
        let _ = reference.kill();
    }
    let status = reference
        .wait()
        .context("the reference's process cannot be waited for")?;
    let computed = computed?;
    ensure!(
        status.success(),
        "the reference could not be computed on the CPU: {status}; see above"
    );

    let rows = accuracy::compare(&computed, &accuracy::reference::read(&file, &computed)?)?;
    let lines = rows.iter().map(|row| {
        vec![
            row.model.to_owned(),
            row.precision.clone(),
            row.what.clone(),
            format!("{:.1e}", row.difference),
            format!("{:.1e}", row.allowed),
            if row.right { "right" } else { "WRONG" }.to_owned(),
        ]
    });
    let head = ["model", "format", "what", "difference", "allowed", ""];
    console::print(format_args!("\n{}\n", markdown(&head, lines)))?;
    let wrong: Vec<String> = rows
        .iter()
        .filter(|row| !row.right)
        .map(|row| format!("{} of {} in {}", row.what, row.model, row.precision))
        .collect();
    let hint = match Device::current()? {
        Device::Gpu => "train with --device cpu, and report it to MLX's authors",
        Device::Cpu => "train with MLX_GPT_KERNELS=off in the environment, and report it",
    };
    ensure!(
        wrong.is_empty(),
        "this device computes wrong numbers: {}; {hint}",
        wrong.join(", ")
    );
    Ok(())
}

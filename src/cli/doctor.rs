//! `mlx-gpt doctor`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;

use super::VERSION;
use crate::checkpoint::runs::find_checkpoint;
use crate::config::Device;
use crate::measure::doctor;
use crate::terminal::console;
use crate::terminal::escape::visible;

/// Say what this machine has, what is missing, and the command that fixes it
#[derive(Args)]
#[command(after_long_help = "\
Examples:

    mlx-gpt doctor                         the machine
    mlx-gpt doctor --checkpoint runs/x     and whether that checkpoint is whole")]
pub struct Options {
    /// Also verify this checkpoint: every file against its recorded hash, then load it
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Look at this device of MLX's [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    console::print(format_args!("mlx-gpt     {VERSION}\n"))?;
    if let Some(device) = options.device {
        device.select()?;
    }
    let mut findings = doctor::machine();
    if let Some(path) = &options.checkpoint {
        findings.push(doctor::checkpoint(&find_checkpoint(Some(path))?));
    }
    let mut healthy = true;
    for finding in &findings {
        healthy &= finding.remedy.is_none();
        let mark = if finding.remedy.is_none() { "" } else { "PROBLEM: " };
        console::print(format_args!("{:<11} {mark}{}\n", finding.what, visible(&finding.found)))?;
        if let Some(remedy) = &finding.remedy {
            console::print(format_args!("            fix it with: {remedy}\n"))?;
        }
    }
    ensure!(healthy, "something is missing or damaged, see above");
    console::print("all is well\n")?;
    Ok(ExitCode::SUCCESS)
}

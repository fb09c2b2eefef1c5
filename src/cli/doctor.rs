//! `mlx-gpt doctor`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{VERSION, output};
use crate::checkpoint::run::find_checkpoint;
use crate::doctor;

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
}

pub fn run(options: &Options) -> Result<ExitCode> {
    output::write(&format!("mlx-gpt     {VERSION}\n"))?;
    let mut findings = doctor::machine();
    if let Some(path) = &options.checkpoint {
        findings.push(doctor::checkpoint(&find_checkpoint(Some(path))?));
    }
    let mut healthy = true;
    for finding in &findings {
        healthy &= finding.remedy.is_none();
        let mark = if finding.remedy.is_none() { "" } else { "MISSING: " };
        output::write(&format!("{:<11} {mark}{}\n", finding.what, finding.found))?;
        if let Some(remedy) = &finding.remedy {
            output::write(&format!("            fix it with: {remedy}\n"))?;
        }
    }
    output::write(if healthy {
        "all is well\n"
    } else {
        "something is missing, see above\n"
    })?;
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

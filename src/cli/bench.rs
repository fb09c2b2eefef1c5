//! `mlx-gpt bench`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{speedrun, sweep};

/// Measure recipes: which rates are best, how soon a loss is reached
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Sweep(sweep::Options),
    Speedrun(speedrun::Options),
}

pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.action {
        Action::Sweep(options) => sweep::run(options),
        Action::Speedrun(options) => speedrun::run(options),
    }
}

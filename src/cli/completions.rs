//! `mlx-gpt completions`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clap_complete::{Shell, generate};

use super::command::command;
use crate::terminal::console;

/// Print a shell completion script for commands and options
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt completions bash > ~/.local/share/bash-completion/completions/mlx-gpt
    mlx-gpt completions zsh > ~/.zfunc/_mlx-gpt          where .zshrc has: fpath+=~/.zfunc; autoload -U compinit; compinit
    mlx-gpt completions fish > ~/.config/fish/completions/mlx-gpt.fish")]
pub struct Options {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let mut script = Vec::new();
    generate(options.shell, &mut command(), "mlx-gpt", &mut script);
    console::print(String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

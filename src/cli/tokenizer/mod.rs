//! `mlx-gpt tokenizer`.

mod compare;
mod decode;
mod encode;
mod html;
mod input;
mod show;
mod train;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
pub use input::read_text;

/// Train, apply, look at and compare tokenizers
///
/// A tokenizer is given by name or path: `char` (a token a character, those of the corpus), `gpt2`, `cl100k` (GPT-4's),
/// a tokenizer.json, or a folder that holds one.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(train::Options),
    Encode(encode::Options),
    Decode(decode::Options),
    Show(show::Options),
    Compare(compare::Options),
}

pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.command {
        Command::Train(options) => train::run(options),
        Command::Encode(options) => encode::run(options),
        Command::Decode(options) => decode::run(options),
        Command::Show(options) => show::run(options),
        Command::Compare(options) => compare::run(options),
    }?;
    Ok(ExitCode::SUCCESS)
}

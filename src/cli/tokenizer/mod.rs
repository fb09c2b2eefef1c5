//! `mlx-gpt tokenizer`.

mod compare;
mod convert;
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

/// Train, use, inspect, compare and convert tokenizers
///
/// A tokenizer is given by name or path: `char` (one token per character of the corpus), `gpt2`, `cl100k` (GPT-4's),
/// a tokenizer.json, a sentencepiece .model, a .tiktoken, or a folder that holds one of them or vocab.json and merges.txt.
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
    Convert(convert::Options),
}

pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.command {
        Command::Train(options) => train::run(options),
        Command::Encode(options) => encode::run(options),
        Command::Decode(options) => decode::run(options),
        Command::Show(options) => show::run(options),
        Command::Compare(options) => compare::run(options),
        Command::Convert(options) => convert::run(options),
    }?;
    Ok(ExitCode::SUCCESS)
}

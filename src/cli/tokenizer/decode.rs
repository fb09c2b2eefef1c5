//! `mlx-gpt tokenizer decode`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::input::{MAX_TEXT_BYTES, open, read_text};
use crate::terminal::console;

/// Turn token ids into text
///
/// Bytes that are not valid UTF-8, such as part of a character, are shown as U+FFFD.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt tokenizer decode --tokenizer gpt2 31373 995
    mlx-gpt tokenizer encode --tokenizer gpt2 'hello' | mlx-gpt tokenizer decode --tokenizer gpt2 --file -")]
pub struct Options {
    /// Token ids, separated by spaces or commas
    #[arg(required_unless_present = "file", value_delimiter = ',')]
    ids: Vec<u32>,
    /// A file with ids, separated by white space, commas or brackets, or as `encode --json` prints them; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "ids")]
    file: Option<PathBuf>,
    /// char, gpt2, cl100k, a tokenizer.json, .model or .tiktoken, or a folder that holds one
    #[arg(long, value_name = "NAME")]
    tokenizer: String,
    /// Corpus whose characters are the vocabulary of `char` [default: the built-in corpus]
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// Print one JSON object, {"text": …}
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let tokenizer = open(&options.tokenizer, options.corpus.as_deref())?;
    let ids = match &options.file {
        Some(file) => {
            let text = read_text(file, MAX_TEXT_BYTES)?;
            parse(&text).with_context(|| format!("file {} does not hold token ids", file.display()))?
        }
        None => options.ids.clone(),
    };
    let text = tokenizer.decode(&ids)?;
    if options.json {
        return console::print(format_args!("{}\n", json!({ "text": text })));
    }
    console::print(format_args!("{text}\n"))
}

fn parse(text: &str) -> Result<Vec<u32>> {
    if let Ok(Value::Object(object)) = serde_json::from_str(text) {
        let ids = object.get("ids").context("the JSON object has no \"ids\"")?;
        return Ok(Vec::deserialize(ids)?);
    }
    text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']'))
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().with_context(|| format!("{word:?} is not a token id")))
        .collect()
}

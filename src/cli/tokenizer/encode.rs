//! `mlx-gpt tokenizer encode`.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::input::{TextInput, open};
use crate::config::SpecialTokens;
use crate::terminal::console::{self, say};

/// Turn text into token ids
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt tokenizer encode --tokenizer gpt2 'hello world'            31373 995
    mlx-gpt tokenizer encode --tokenizer my-tok --file notes.txt --json
    mlx-gpt tokenizer encode --tokenizer gpt2 --special allow '<|endoftext|>'")]
pub struct Options {
    #[command(flatten)]
    input: TextInput,
    /// char, gpt2, cl100k, a tokenizer.json, .model or .tiktoken, or a folder that holds one
    #[arg(long, value_name = "NAME")]
    tokenizer: String,
    /// Corpus whose characters are the vocabulary of `char` [default: the built-in corpus]
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// How to encode the text of special tokens
    #[arg(long, value_enum, default_value = "text")]
    special: SpecialTokens,
    /// Print one JSON object, {"ids": […]}
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let tokenizer = open(&options.tokenizer, options.corpus.as_deref())?;
    let text = options.input.read()?;
    let ids = tokenizer.encode_with(&text, &options.special.into())?;
    if let Some(note) = tokenizer.special_token_note(&text, options.special) {
        say(format_args!("note: {note}"));
    }
    if options.json {
        return console::print(format_args!("{}\n", json!({ "ids": ids })));
    }
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    console::print(format_args!("{}\n", ids.join(" ")))
}

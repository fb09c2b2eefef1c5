//! `mlx-gpt tokenizer compare`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::input::{TextInput, open};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::runs;
use crate::data::dataset::SplitTokens;
use crate::data::tokens::Tokens;
use crate::evaluate::text::evaluate_checkpoint;
use crate::terminal::console;
use crate::tokenizer::Tokenizer;

/// Compare tokenizers on one text: tokens, bytes per token, vocabulary size, and models' bits per byte
///
/// With fewer tokens, a model's context covers more text; with a smaller vocabulary, the model is smaller.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt tokenizer compare 'The quick brown fox'
    mlx-gpt tokenizer compare --file notes.txt --tokenizer gpt2 --tokenizer my-tok")]
pub struct Options {
    #[command(flatten)]
    input: TextInput,
    /// char, gpt2, cl100k, a tokenizer.json, .model or .tiktoken, or a folder that holds one; may be repeated
    #[arg(long, value_name = "NAME", default_values = ["char", "gpt2", "cl100k"])]
    tokenizer: Vec<String>,
    /// A run or a checkpoint: its tokenizer, and its model's bits per byte on the text; may be repeated
    #[arg(long, value_name = "DIR")]
    checkpoint: Vec<PathBuf>,
    /// Corpus whose characters are the vocabulary of `char` [default: the built-in corpus]
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Statistics of one tokenizer on the text.
struct TokenizerStats {
    name: String,
    vocab_size: usize,
    /// Number of tokens, or why the text cannot be encoded.
    tokens: Result<usize>,
    /// Of the checkpoint's model, if there is one.
    bits_per_byte: Option<f64>,
}

impl TokenizerStats {
    fn of_tokenizer(name: &str, tokenizer: &Tokenizer, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            vocab_size: tokenizer.vocab_size(),
            tokens: tokenizer.encode(text).map(|ids| ids.len()),
            bits_per_byte: None,
        }
    }

    fn of_checkpoint(folder: &Path, text: &str) -> Result<Self> {
        let checkpoint = runs::read_checkpoint(Some(folder), Checkpoint::load)?;
        let mut row = Self::of_tokenizer(&folder.display().to_string(), &checkpoint.tokenizer, text);
        if row.tokens.is_ok() {
            let part = SplitTokens {
                tokens: Tokens::Memory(checkpoint.tokenizer.encode(text)?),
                bytes: Some(text.len() as u64),
            };
            row.bits_per_byte = evaluate_checkpoint(&checkpoint, &part, checkpoint.model.context, |_| ())?.1;
        }
        Ok(row)
    }

    fn bytes_per_token(&self, text: &str) -> Option<f64> {
        let tokens = self.tokens.as_ref().ok()?;
        Some(text.len() as f64 / (*tokens).max(1) as f64)
    }

    fn line(&self, text: &str) -> String {
        let number = |value: Option<f64>, digits| value.map_or("–".into(), |value| format!("{value:.digits$}"));
        let (tokens, problem) = match &self.tokens {
            Ok(tokens) => (tokens.to_string(), String::new()),
            // The others are compared nevertheless.
            Err(error) => ("–".into(), format!("  {error:#}")),
        };
        format!(
            "{:<24} {tokens:>10} {:>15} {:>13} {:>11}{problem}\n",
            self.name,
            number(self.bytes_per_token(text), 2),
            number(self.bits_per_byte, 3),
            self.vocab_size
        )
    }

    fn json(&self, text: &str) -> Value {
        json!({
            "tokenizer": self.name,
            "tokens": self.tokens.as_ref().ok(),
            "error": self.tokens.as_ref().err().map(|error| format!("{error:#}")),
            "bytes_per_token": self.bytes_per_token(text),
            "bits_per_byte": self.bits_per_byte,
            "vocab_size": self.vocab_size,
        })
    }
}

pub fn run(options: &Options) -> Result<()> {
    let text = options.input.read()?;
    let mut rows = Vec::new();
    for name in &options.tokenizer {
        rows.push(TokenizerStats::of_tokenizer(
            name,
            &open(name, options.corpus.as_deref())?,
            &text,
        ));
    }
    for folder in &options.checkpoint {
        rows.push(TokenizerStats::of_checkpoint(folder, &text)?);
    }
    if options.json {
        let rows: Vec<Value> = rows.iter().map(|row| row.json(&text)).collect();
        return console::print(format_args!("{}\n", json!({ "bytes": text.len(), "tokenizers": rows })));
    }
    let heading = format!(
        "{:<24} {:>10} {:>15} {:>13} {:>11}\n",
        "tokenizer", "tokens", "bytes per token", "bits per byte", "vocabulary"
    );
    console::print(heading + &rows.iter().map(|row| row.line(&text)).collect::<String>())
}

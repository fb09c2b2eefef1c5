//! `mlx-gpt tokenizer compare`.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::input::{Input, open};
use crate::cli::output;

/// Compare tokenizers on one text: tokens, bytes per token, vocabulary
///
/// Fewer tokens mean that a model's context reaches further; a smaller vocabulary means a smaller model.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  mlx-gpt tokenizer compare 'The quick brown fox'
  mlx-gpt tokenizer compare --file notes.txt --tokenizer gpt2 --tokenizer my-tok")]
pub struct Options {
    #[command(flatten)]
    input: Input,
    /// char, gpt2, cl100k, a tokenizer.json, or a folder that holds one; give it several times
    #[arg(long, value_name = "NAME", default_values = ["char", "gpt2", "cl100k"])]
    tokenizer: Vec<String>,
    /// The text whose characters `char` knows [default: the built-in corpus]
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let text = options.input.read()?;
    let mut table = format!(
        "{:<24} {:>10} {:>15} {:>11}\n",
        "tokenizer", "tokens", "bytes per token", "vocabulary"
    );
    let mut rows = Vec::new();
    for name in &options.tokenizer {
        let tokenizer = open(name, options.corpus.as_deref())?;
        let vocabulary = tokenizer.vocab_size();
        match tokenizer.encode(&text) {
            Ok(ids) => {
                let bytes_per_token = text.len() as f64 / ids.len().max(1) as f64;
                table += &format!(
                    "{name:<24} {:>10} {bytes_per_token:>15.2} {vocabulary:>11}\n",
                    ids.len()
                );
                rows.push(json!({
                    "tokenizer": name,
                    "tokens": ids.len(),
                    "bytes_per_token": bytes_per_token,
                    "vocab_size": vocabulary
                }));
            }
            // One that cannot write the text says why, and the others are compared all the same.
            Err(error) => {
                table += &format!("{name:<24} {:>10} {:>15} {vocabulary:>11}  {error:#}\n", "–", "–");
                rows.push(json!({
                    "tokenizer": name,
                    "tokens": Value::Null,
                    "error": format!("{error:#}"),
                    "vocab_size": vocabulary
                }));
            }
        }
    }
    if options.json {
        return output::write(&format!("{}\n", json!({ "bytes": text.len(), "tokenizers": rows })));
    }
    output::write(&table)
}

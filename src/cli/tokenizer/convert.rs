//! `mlx-gpt tokenizer convert`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::input::open;
use super::train::{ensure_free, output_file, save};
use crate::terminal::console;
use crate::tokenizer::{AddedToken, Pattern, PreTokenizer, Tokenizer};

/// Write a tokenizer as tokenizer.json
///
/// A .tiktoken file has no split pattern and no special tokens: give them with --pattern and --special. The files that
/// OpenAI published need neither.
#[derive(Args)]
#[command(after_long_help = "\
Examples:

    mlx-gpt tokenizer convert --tokenizer tokenizer.model --out my-tok
    mlx-gpt tokenizer convert --tokenizer qwen.tiktoken --pattern gpt4 --special '<|endoftext|>' --out qwen
    mlx-gpt tokenizer convert --tokenizer x.tiktoken --special '<|bos|>=65527' --special '<|eos|>=65535' --out x")]
pub struct Options {
    /// gpt2, cl100k, a tokenizer.json, .model or .tiktoken, or a folder that holds one
    #[arg(long, value_name = "NAME")]
    tokenizer: String,
    /// Split pattern for a .tiktoken file: gpt2, gpt4, or a regular expression [default: gpt4]
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<PreTokenizer>,
    /// A special token for a .tiktoken file, optionally with its id after = [default: the next free id]; may be repeated
    #[arg(long, value_name = "TEXT[=ID]")]
    special: Vec<String>,
    /// A folder for tokenizer.json and tokenizer_config.json, or a file whose name ends in .json
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
}

pub fn run(options: &Options) -> Result<()> {
    let file = output_file(&options.out);
    ensure_free(&options.out)?;
    let tokenizer = if options.pattern.is_some() || !options.special.is_empty() {
        load_tiktoken(options)?
    } else {
        open(&options.tokenizer, None)?
    };
    save(&tokenizer, &options.out)?;
    console::print(format_args!("{}: {} tokens\n", file.display(), tokenizer.vocab_size()))
}

/// The tokenizer of a `.tiktoken` file with the given pattern and special tokens.
fn load_tiktoken(options: &Options) -> Result<Tokenizer> {
    let file = Path::new(&options.tokenizer);
    let pattern = options.pattern.clone().unwrap_or(Pattern::Gpt4.into());
    let read = Tokenizer::load_tiktoken(file, pattern.clone(), Vec::new());
    let tokenizer = match file.exists() {
        false => read?,
        true => read.with_context(|| {
            format!(
                "--pattern and --special are for a .tiktoken file, which {} is not",
                file.display()
            )
        })?,
    };
    let mut next = u32::try_from(tokenizer.vocab_size())?;
    let mut specials = Vec::with_capacity(options.special.len());
    for special in &options.special {
        // A token may contain an equals sign, but not followed by a number.
        let (content, id) = match special.rsplit_once('=').map(|(content, id)| (content, id.parse())) {
            Some((content, Ok(id))) => (content, id),
            _ => (special.as_str(), next),
        };
        ensure!(!content.is_empty(), "special token {special:?} has no text");
        let Some(after) = id.checked_add(1) else {
            bail!("token id {id} is too large");
        };
        next = next.max(after);
        specials.push(AddedToken::special(content, id));
    }
    Tokenizer::load_tiktoken(file, pattern, specials)
}

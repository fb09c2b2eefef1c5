//! `mlx-gpt tokenizer show`.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use super::html;
use super::input::{TextInput, open};
use crate::config::SpecialTokens;
use crate::disk::durable;
use crate::terminal::console;
use crate::tokenizer::pieces::{ShownToken, pieces};

/// Alternating background colours, of the terminal's 256, for black text.
const COLOURS: [u8; 6] = [153, 157, 223, 218, 189, 229];

/// Show the tokens of a text
///
/// Prints the text with its tokens in colours, then each token's id, bytes and code points. There are no colours if the
/// output is not a terminal or NO_COLOR is set.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt tokenizer show 'Hello wörld 😀'
    mlx-gpt tokenizer show --tokenizer my-tok --file notes.txt --html tokens.html")]
pub struct Options {
    #[command(flatten)]
    input: TextInput,
    /// char, gpt2, cl100k, a tokenizer.json, .model or .tiktoken, or a folder that holds one
    #[arg(long, value_name = "NAME", default_value = "gpt2")]
    tokenizer: String,
    /// Corpus whose characters are the vocabulary of `char` [default: the built-in corpus]
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// How to encode the text of special tokens
    #[arg(long, value_enum, default_value = "allow")]
    special: SpecialTokens,
    /// Write a self-contained HTML page instead; an earlier such page is replaced
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<()> {
    let tokenizer = open(&options.tokenizer, options.corpus.as_deref())?;
    let text = options.input.read()?;
    let pieces = pieces(&tokenizer, &text, &options.special.into())?;
    if let Some(file) = &options.html {
        ensure!(
            !file.exists() || html::is_page(file),
            "{} already exists and is not a page of tokens; choose another --html",
            file.display()
        );
        let _made = durable::make_parents(file)?;
        durable::write_file(file, html::page(&options.tokenizer, &text, &pieces).as_bytes())?;
        return console::print(format_args!("{}\n", file.display()));
    }
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    console::print(&(line(&pieces, coloured) + &table(&pieces) + &summary(&text, pieces.len())))
}

/// The text with its tokens in colours, or separated by bars.
fn line(pieces: &[ShownToken], coloured: bool) -> String {
    let mut line = String::new();
    for (index, piece) in pieces.iter().enumerate() {
        if coloured {
            let colour = COLOURS[index % COLOURS.len()];
            line += &format!("\x1b[48;5;{colour}m\x1b[30m{}\x1b[0m", piece.shown);
        } else {
            line += if index == 0 { "" } else { "|" };
            line += &piece.shown;
        }
        if piece.bytes.ends_with(b"\n") {
            line.push('\n');
        }
    }
    line.trim_end_matches('\n').to_owned() + "\n\n"
}

fn table(pieces: &[ShownToken]) -> String {
    let mut table = format!("{:>7}  {:<20} {:<24} code points\n", "id", "token", "bytes");
    for piece in pieces {
        // Padding counts characters; most are one column wide.
        table += &format!(
            "{:>7}  {:<20} {:<24} {}{}\n",
            piece.id,
            piece.shown.replace(' ', "·"),
            piece.hex(),
            piece.code_points,
            if piece.is_special { "  special" } else { "" }
        );
    }
    table
}

/// The numbers of tokens, characters and bytes.
pub fn summary(text: &str, tokens: usize) -> String {
    let bytes_per_token = text.len() as f64 / tokens.max(1) as f64;
    format!(
        "\n{tokens} tokens, {} characters, {} bytes: {bytes_per_token:.2} bytes per token\n",
        text.chars().count(),
        text.len()
    )
}

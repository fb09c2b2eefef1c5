//! Texts as the tokenizers of GPT-2 and GPT-4 cut them.

use std::fmt::Write;

use anyhow::Result;

use crate::tokenizer::pieces::pieces;
use crate::tokenizer::{SpecialTokenPolicy, Tokenizer};

/// Both tokenizers with their names.
///
/// # Errors
/// None.
pub fn published() -> Result<[(&'static str, Tokenizer); 2]> {
    Ok([("gpt2", Tokenizer::gpt2()?), ("cl100k", Tokenizer::cl100k()?)])
}

/// The tokens of each line in both tokenizers: their number, and the line with bars between them and dots for spaces.
///
/// # Errors
/// None.
pub fn cut(lines: &str) -> Result<String> {
    let mut out = String::new();
    let both = published()?;
    for line in lines.lines() {
        for (name, tokenizer) in &both {
            let tokens = pieces(tokenizer, line, &SpecialTokenPolicy::TEXT)?;
            let shown: Vec<String> = tokens.iter().map(|token| token.shown.replace(' ', "·")).collect();
            writeln!(out, "{name:<6} {:>2}  {}", shown.len(), shown.join("|"))?;
        }
        out.push('\n');
    }
    Ok(out)
}

/// A table of named texts: their characters, their bytes, and their tokens in both tokenizers.
///
/// # Errors
/// None.
pub fn lengths(texts: &[(&str, &str)]) -> Result<String> {
    let mut out = String::from("            characters  bytes   gpt2  cl100k\n");
    let both = published()?;
    for (name, text) in texts {
        write!(out, "{name:<10}  {:>10}  {:>5}", text.chars().count(), text.len())?;
        for (_, tokenizer) in &both {
            write!(out, "  {:>5}", tokenizer.encode(text)?.len())?;
        }
        out.push('\n');
    }
    Ok(out)
}

//! `.tiktoken` files: a token a line, its bytes in base64 and its rank. They contain neither the split pattern nor the
//! special tokens.

use std::path::Path;

use anyhow::{Context, Result};

use super::base64;
use super::{AddedToken, Bpe, END_OF_TEXT, Pattern, PreTokenizer};
use crate::disk::hash::sha256;

/// A file that OpenAI published, as tiktoken 0.14 uses it.
struct Published {
    sha256: &'static str,
    regex: &'static str,
    specials: &'static [(&'static str, u32)],
}

/// o200k's pattern.
const O200K: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const PUBLISHED: [Published; 4] = [
    Published {
        sha256: "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930", // r50k_base, GPT-2's
        regex: "gpt2",
        specials: &[(END_OF_TEXT, 50256)],
    },
    Published {
        sha256: "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069", // p50k_base
        regex: "gpt2",
        specials: &[(END_OF_TEXT, 50256)],
    },
    Published {
        sha256: "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7", // cl100k_base, GPT-4's
        regex: "gpt4",
        specials: &CL100K_SPECIALS,
    },
    Published {
        sha256: "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d", // o200k_base
        regex: O200K,
        specials: &[(END_OF_TEXT, 199999), ("<|endofprompt|>", 200018)],
    },
];

/// The special tokens of GPT-4's tokenizer.
pub const CL100K_SPECIALS: [(&str, u32); 5] = [
    (END_OF_TEXT, 100257),
    ("<|fim_prefix|>", 100258),
    ("<|fim_middle|>", 100259),
    ("<|fim_suffix|>", 100260),
    ("<|endofprompt|>", 100276),
];

/// Whether the first line is a token and its rank.
pub fn is_tiktoken(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    str::from_utf8(line).ok().and_then(token).is_some()
}

/// Reads a file: OpenAI's with their own pattern and special tokens, others with GPT-4's pattern and no special tokens,
/// which a note says.
///
/// # Errors
/// A line that is no token, or as [`Bpe::new`].
pub fn read(bytes: &[u8], file: &Path) -> Result<Bpe> {
    let hash = sha256(bytes);
    if let Some(published) = PUBLISHED.iter().find(|published| published.sha256 == hash) {
        let specials = published.specials.iter();
        let specials = specials.map(|(token, id)| AddedToken::special(token, *id));
        return read_with(bytes, published.regex.parse()?, specials.collect(), file);
    }
    log::info!(
        "tokenizer {0} has no split pattern or special tokens; using GPT-4's pattern and no special tokens; \
         mlx-gpt tokenizer convert --tokenizer {0} --pattern … --special … makes a tokenizer.json with others",
        file.display()
    );
    read_with(bytes, Pattern::Gpt4.into(), Vec::new(), file)
}

/// Reads a file, with the split pattern and special tokens given.
///
/// # Errors
/// As [`read`].
pub fn read_with(bytes: &[u8], pre_tokenizer: PreTokenizer, specials: Vec<AddedToken>, file: &Path) -> Result<Bpe> {
    let shown = file.display();
    let text = str::from_utf8(bytes).with_context(|| format!("tokenizer {shown} is not a .tiktoken file"))?;
    let tokens = tokens(text).with_context(|| format!("tokenizer {shown} is broken"))?;
    Bpe::new(tokens, pre_tokenizer, specials).with_context(|| format!("tokenizer {shown} is broken"))
}

/// The tokens and their ranks, which are their ids.
///
/// # Errors
/// A line that is no token.
pub fn tokens(text: &str) -> Result<Vec<(Box<[u8]>, u32)>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(number, line)| token(line).with_context(|| format!("line {} is not a token and its rank", number + 1)))
        .collect()
}

fn token(line: &str) -> Option<(Box<[u8]>, u32)> {
    let (token, rank) = line.trim_end().split_once(' ')?;
    Some((base64::decode(token)?.into(), rank.parse().ok()?))
}

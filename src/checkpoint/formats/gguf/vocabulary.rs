//! The tokenizer in GGUF's words.

use anyhow::{Context, Result, bail};

use super::container::MetadataValue;
use crate::checkpoint::Checkpoint;
use crate::tokenizer::byte_unicode::to_characters;
use crate::tokenizer::{Bpe, Pattern, PreTokenizer, Tokenizer};

// GGUF's token types.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// A byte that UTF-8 never has, so that its token comes from no text.
const NO_TEXT: u8 = 0xff;

/// The keys of tokens that end a generation: of a text, of a turn, of a message. llama.cpp ends at each of them.
pub const END_KEYS: [&str; 3] = [
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
];

/// Tokens, merges and special ids of a tokenizer for a model of so many tokens.
///
/// # Errors
/// A tokenizer that is not byte-level BPE by a published pattern, or does more.
pub fn metadata(checkpoint: &Checkpoint) -> Result<Vec<(&'static str, MetadataValue)>> {
    const REMEDY: &str = "train with --tokenizer gpt2, or with one that `mlx-gpt tokenizer train` makes";
    let bpe = match &checkpoint.tokenizer {
        Tokenizer::Bpe(bpe) => bpe,
        Tokenizer::Char(_) => bail!("GGUF has no character tokenizers; {REMEDY}"),
        Tokenizer::HuggingFace(_) => bail!(
            "its tokenizer is run by Hugging Face's library; only byte-level BPE by GPT-2's or GPT-4's pattern is written; {REMEDY}"
        ),
    };
    let pattern = match bpe.pre_tokenizer() {
        PreTokenizer::Pattern(pattern) => *pattern,
        PreTokenizer::Expression(expression) => bail!(
            "GGUF has no name for the split pattern of its tokenizer, {}; {REMEDY}",
            expression.as_str()
        ),
    };
    let odd = bpe
        .added_tokens()
        .tokens()
        .iter()
        .find(|token| token.takes_more_than_its_text());
    if let Some(token) = odd {
        bail!(
            "its token {} takes the white space around it or is no part of a word, which GGUF cannot represent; {REMEDY}",
            token.content
        );
    }
    if bpe.add_prefix_space() {
        bail!("its tokenizer puts a space before each text, which GGUF cannot represent; {REMEDY}");
    }
    let (tokens, types) = tokens(bpe, checkpoint.model.vocab_size);
    let merges = bpe.written_merges().context("its tokenizer")?;
    let ends = ends_of_generation(checkpoint, bpe).context("its tokenizer lacks a byte")?;
    let begin = checkpoint.bos_token().unwrap_or(ends[0]);
    let mut metadata = vec![
        ("tokenizer.ggml.model", MetadataValue::String("gpt2".into())),
        (
            "tokenizer.ggml.pre",
            MetadataValue::String(pre_tokenizer(pattern).into()),
        ),
        ("tokenizer.ggml.tokens", MetadataValue::Strings(tokens)),
        ("tokenizer.ggml.token_type", MetadataValue::I32s(types)),
        ("tokenizer.ggml.merges", MetadataValue::Strings(merges)),
        ("tokenizer.ggml.bos_token_id", MetadataValue::U32(begin)),
        // GPT-2 is prompted with the text alone.
        ("tokenizer.ggml.add_bos_token", MetadataValue::Bool(false)),
    ];
    metadata.extend(END_KEYS.into_iter().zip(ends.into_iter().map(MetadataValue::U32)));
    Ok(metadata)
}

/// llama.cpp knows patterns by the first model that had them; DBRX has GPT-4's tokenizer. Its expression is an older one
/// of tiktoken's, which at the very end of a text cuts between a line end and the spaces after it. No token of cl100k
/// crosses that cut, so the ids are the same.
fn pre_tokenizer(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Gpt2 => "gpt-2",
        Pattern::Gpt4 => "dbrx",
    }
}

/// Each id's token as llama.cpp writes it, and its type. Ids that no token has get a name, because each must have one.
fn tokens(bpe: &Bpe, vocab_size: usize) -> (Vec<String>, Vec<i32>) {
    let mut tokens: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![UNUSED; vocab_size];
    for (id, token) in bpe.ordinary_tokens() {
        tokens[id as usize] = to_characters(token);
        types[id as usize] = NORMAL;
    }
    for token in bpe.added_tokens().tokens() {
        tokens[token.id as usize].clone_from(&token.content);
        types[token.id as usize] = if token.special { CONTROL } else { USER_DEFINED };
    }
    (tokens, types)
}

/// The tokens that end a generation. Left to itself, llama.cpp takes the one with id 11, GPT-2's comma: where there is
/// none, it is one that no text has.
fn ends_of_generation(checkpoint: &Checkpoint, bpe: &Bpe) -> Option<Vec<u32>> {
    let ends = checkpoint.eos_tokens();
    if !ends.is_empty() {
        return Some(ends);
    }
    let mut tokens = bpe.ordinary_tokens();
    tokens.find(|&(_, token)| token == [NO_TEXT]).map(|(id, _)| vec![id])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`pre_tokenizer`] relies on.
    #[test]
    fn no_token_of_cl100k_crosses_from_a_line_end_to_spaces() -> Result<()> {
        let cl100k = crate::tokenizer::published::cl100k()?;
        let crosses =
            |token: &str| token.trim().is_empty() && token.contains(['\r', '\n']) && !token.ends_with(['\r', '\n']);
        let mut texts = cl100k
            .ordinary_tokens()
            .filter_map(|(_, token)| str::from_utf8(token).ok());
        assert_eq!(texts.find(|token| crosses(token)), None);
        Ok(())
    }
}

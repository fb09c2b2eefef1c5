//! GGUF's metadata of the tokenizer.

use anyhow::{Context, Result, bail};

use super::container::MetadataValue;
use crate::checkpoint::Checkpoint;
use crate::tokenizer::byte_unicode::bytes_to_unicode;
use crate::tokenizer::{Bpe, Pattern, PreTokenizer, Tokenizer};

// GGUF's token types.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// A byte that never occurs in UTF-8, so that its token never occurs in a text.
const UNUSED_BYTE: u8 = 0xff;

/// The keys of the end-of-generation tokens (text, turn, message). llama.cpp stops at each of them.
pub const EOG_KEYS: [&str; 3] = [
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
];

/// Tokens, merges and special ids of a checkpoint's tokenizer.
///
/// # Errors
/// The tokenizer is not byte-level BPE with a published split pattern, or has further steps.
pub fn metadata(checkpoint: &Checkpoint) -> Result<Vec<(&'static str, MetadataValue)>> {
    const HINT: &str = "train with --tokenizer gpt2, or with one of `mlx-gpt tokenizer train`";
    let bpe = match &checkpoint.tokenizer {
        Tokenizer::Bpe(bpe) => bpe,
        Tokenizer::Char(_) => bail!("GGUF has no character tokenizers; {HINT}"),
        Tokenizer::HuggingFace(_) => bail!(
            "its tokenizer is run by Hugging Face's library; only byte-level BPE with GPT-2's or GPT-4's split pattern is supported; {HINT}"
        ),
    };
    let pattern = match bpe.pre_tokenizer() {
        PreTokenizer::Pattern(pattern) => *pattern,
        PreTokenizer::Expression(expression) => bail!(
            "GGUF has no name for the split pattern of its tokenizer, {}; {HINT}",
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
            "its token {} strips white space around it or only matches whole words, which GGUF cannot represent; {HINT}",
            token.content
        );
    }
    if bpe.add_prefix_space() {
        bail!("its tokenizer adds a space before each text, which GGUF cannot represent; {HINT}");
    }
    let (tokens, types) = tokens(bpe, checkpoint.model.vocab_size);
    let merges = bpe.written_merges().context("its tokenizer")?;
    let eog = eog_tokens(checkpoint, bpe).context("its tokenizer lacks a byte")?;
    let begin = checkpoint.bos_token().unwrap_or(eog[0]);
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
        // GPT-2's prompt is the text alone.
        ("tokenizer.ggml.add_bos_token", MetadataValue::Bool(false)),
    ];
    metadata.extend(EOG_KEYS.into_iter().zip(eog.into_iter().map(MetadataValue::U32)));
    Ok(metadata)
}

/// llama.cpp's name of a split pattern, which is that of the first model with it; DBRX has GPT-4's tokenizer. Its expression
/// is tiktoken's older one, which at the very end of a text splits between a newline and the spaces after it. No token of
/// cl100k crosses that boundary, so the ids are the same.
fn pre_tokenizer(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Gpt2 => "gpt-2",
        Pattern::Gpt4 => "dbrx",
    }
}

/// The text and type of each id in llama.cpp's form. Unused ids get a placeholder, because each must have a text.
fn tokens(bpe: &Bpe, vocab_size: usize) -> (Vec<String>, Vec<i32>) {
    let mut tokens: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![UNUSED; vocab_size];
    for (id, token) in bpe.ordinary_tokens() {
        tokens[id as usize] = bytes_to_unicode(token);
        types[id as usize] = NORMAL;
    }
    for token in bpe.added_tokens().tokens() {
        tokens[token.id as usize].clone_from(&token.content);
        types[token.id as usize] = if token.special { CONTROL } else { USER_DEFINED };
    }
    (tokens, types)
}

/// The end-of-generation tokens. By default, llama.cpp uses id 11, GPT-2's comma; a model without eos therefore gets a token
/// that no text contains.
fn eog_tokens(checkpoint: &Checkpoint, bpe: &Bpe) -> Option<Vec<u32>> {
    let ends = checkpoint.eos_tokens();
    if !ends.is_empty() {
        return Some(ends);
    }
    let mut tokens = bpe.ordinary_tokens();
    tokens
        .find(|&(_, token)| token == [UNUSED_BYTE])
        .map(|(id, _)| vec![id])
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

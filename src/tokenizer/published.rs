//! The tokenizers of GPT-2 and GPT-4 (cl100k) from the files in `assets/`, which are part of the program and read only
//! when asked for.

use anyhow::{Context, Result};

use super::added::AddedToken;
use super::byte_unicode::{gpt2_byte_order, unicode_to_bytes};
use super::tiktoken::{CL100K_SPECIALS, tokens};
use super::{Bpe, END_OF_TEXT, Pattern};

const GPT2_MERGES: &str = include_str!("../../assets/gpt2/vocab.bpe");
const CL100K_RANKS: &str = include_str!("../../assets/cl100k/cl100k_base.tiktoken");

/// GPT-2's tokenizer: 256 bytes in an order of its own, 50,000 merges, `<|endoftext|>`.
///
/// ```
/// let gpt2 = mlx_gpt::tokenizer::published::gpt2()?;
/// assert_eq!(gpt2.encode("hello world")?, [31373, 995]);
/// # anyhow::Ok(())
/// ```
///
/// # Errors
/// None with the file in `assets/`, which is checked all the same.
pub fn gpt2() -> Result<Bpe> {
    let broken = "assets/gpt2/vocab.bpe is not as published";
    let mut tokens: Vec<Box<[u8]>> = gpt2_byte_order().map(|byte| [byte].into()).collect();
    // The first line is a version; each of the others is a merge, its two parts written in GPT-2's characters.
    for line in GPT2_MERGES.lines().skip(1) {
        let (left, right) = line.split_once(' ').context(broken)?;
        let mut token = unicode_to_bytes(left).context(broken)?;
        token.extend(unicode_to_bytes(right).context(broken)?);
        tokens.push(token.into());
    }
    let end_of_text = tokens.len() as u32;
    Bpe::new(
        tokens.into_iter().zip(0..).collect(),
        Pattern::Gpt2,
        vec![AddedToken::special(END_OF_TEXT, end_of_text)],
    )
    .context(broken)
}

/// GPT-4's tokenizer, cl100k: 100,256 tokens, five special ones, and gaps among their ids.
///
/// ```
/// let cl100k = mlx_gpt::tokenizer::published::cl100k()?;
/// assert_eq!(cl100k.encode("hello world")?, [15339, 1917]);
/// # anyhow::Ok(())
/// ```
///
/// # Errors
/// None with the file in `assets/`, which is checked all the same.
pub fn cl100k() -> Result<Bpe> {
    let broken = "assets/cl100k/cl100k_base.tiktoken is not as published";
    let specials = CL100K_SPECIALS.map(|(token, id)| AddedToken::special(token, id));
    Bpe::new(tokens(CL100K_RANKS)?, Pattern::Gpt4, specials.into()).context(broken)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use super::super::byte_unicode::bytes_to_unicode;
    use super::*;

    #[test]
    fn gpt2_has_the_ids_of_its_published_vocabulary() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/gpt2/encoder.json");
        let published: HashMap<String, u32> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let ours = gpt2().unwrap();
        assert_eq!(ours.vocab_size(), published.len());
        for (id, token) in ours.ordinary_tokens() {
            assert_eq!(published[&bytes_to_unicode(token)], id);
        }
        assert_eq!(published[END_OF_TEXT], ours.special_tokens()[END_OF_TEXT]);
    }

    #[test]
    fn gpt2s_merges_are_recovered_from_its_tokens() {
        let ours = gpt2().unwrap();
        let recovered: Vec<String> = ours
            .merges()
            .unwrap()
            .into_iter()
            .map(|(left, right)| {
                [left, right]
                    .map(|id| bytes_to_unicode(ours.token_bytes(id).unwrap()))
                    .join(" ")
            })
            .collect();
        assert!(recovered.iter().map(String::as_str).eq(GPT2_MERGES.lines().skip(1)));
    }
}

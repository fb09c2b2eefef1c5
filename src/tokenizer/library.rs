//! Every other tokenizer, through Hugging Face's `tokenizers`: sentencepiece-style BPE with byte fallback, Unigram, and
//! whatever else a `tokenizer.json` can describe. Such a tokenizer may normalize text, so that decoding what it encoded
//! need not give the same text.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::byte_unicode::from_characters;
use super::guarded::guarded;

/// A tokenizer that `tokenizers` runs.
#[derive(Clone, Debug)]
pub struct Library {
    json: Value,
    tokenizer: tokenizers::Tokenizer,
    specials: BTreeMap<String, u32>,
    vocab_size: usize,
}

impl Library {
    /// # Errors
    /// A description that the library doesn't accept.
    pub fn from_json(json: Value) -> Result<Self> {
        let mut tokenizer: tokenizers::Tokenizer = guarded(|| json.to_string().parse())?;
        // A corpus is encoded whole, whatever a model's input was cut or padded to.
        guarded(|| tokenizer.with_truncation(None).map(|_| ()))?;
        tokenizer.with_padding(None);
        // Special tokens are found by `special.rs`, the same for every tokenizer.
        tokenizer.set_encode_special_tokens(true);
        let specials = tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, token)| (token.content, id))
            .collect();
        let vocab_size = tokenizer
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |id| id as usize + 1);
        ensure!(vocab_size > 0, "its vocabulary is empty");
        // The library numbers added tokens itself, whatever their ids are said to be.
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let content = token["content"].as_str().unwrap_or_default();
            let id = tokenizer.token_to_id(content);
            ensure!(
                id.map(u64::from) == token["id"].as_u64(),
                "added token {content:?} has the id {}, where {} is the next",
                token["id"],
                id.map_or("none".into(), |id| id.to_string())
            );
        }
        Ok(Self {
            json,
            tokenizer,
            specials,
            vocab_size,
        })
    }

    pub fn to_json(&self) -> &Value {
        &self.json
    }

    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    pub fn special_tokens(&self) -> &BTreeMap<String, u32> {
        &self.specials
    }

    /// # Errors
    /// What the library refuses: text for which it has no token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, false))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// # Errors
    /// An id that no token has.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|&&id| self.tokenizer.id_to_token(id).is_none()) {
            return Err(anyhow!(
                "token id {id} is out of range; the tokenizer has {} tokens",
                self.vocab_size
            ));
        }
        guarded(|| self.tokenizer.decode(ids, false)).context("the tokens cannot be decoded")
    }

    /// What a token stands for by itself, as well as its kind lets it be said: a byte, or text with spaces for `▁`.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.tokenizer.id_to_token(id)?;
        if self.specials.contains_key(&token) {
            return Some(token.into_bytes());
        }
        if self.json["decoder"]["type"] == "ByteLevel"
            && let Some(bytes) = from_characters(&token)
        {
            return Some(bytes);
        }
        let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        if self.json["model"]["byte_fallback"] == true
            && let Some(byte) = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok())
        {
            return Some(vec![byte]);
        }
        Some(token.replace('▁', " ").into_bytes())
    }
}

//! Every other tokenizer, run by Hugging Face's `tokenizers`: sentencepiece-style BPE with byte fallback, Unigram, and all
//! else that a `tokenizer.json` can describe. Such a tokenizer may normalize text, so decoding an encoded text may return a
//! different one.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::added::{AddedToken, AddedTokens};
use super::byte_unicode::unicode_to_bytes;
use super::guarded::guarded;
use super::special::{SpecialTokenPolicy, SpecialTokenSet};
use super::{gaps, ids};

/// A tokenizer that Hugging Face's `tokenizers` runs.
#[derive(Clone, Debug)]
pub struct HfTokenizer {
    json: Value,
    /// Matches special tokens in a text.
    whole: tokenizers::Tokenizer,
    /// Treats special tokens as text; made when it is first needed.
    plain: OnceLock<Box<tokenizers::Tokenizer>>,
    added: AddedTokens,
    vocab_size: usize,
}

impl HfTokenizer {
    /// The tokenizer of a `tokenizer.json`.
    ///
    /// # Errors
    /// A file that the library doesn't accept.
    pub fn from_json(mut json: Value) -> Result<Self> {
        gaps::fill_gaps(&mut json);
        let whole = parse(&json)?;
        let vocab_size = whole
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |id| id as usize + 1);
        ensure!(vocab_size > 0, "its vocabulary is empty");
        let added = json["added_tokens"].as_array().into_iter().flatten();
        let added: Vec<AddedToken> = added
            .filter_map(AddedToken::from_json)
            .filter(|token| !gaps::is_filler(&token.content))
            .collect();
        for AddedToken { content, id, .. } in &added {
            // The library numbers added tokens itself and ignores the stated ids.
            let numbered = whole.token_to_id(content);
            ensure!(
                numbered == Some(*id),
                "added token {content:?} has the id {id}, where {} is the next",
                numbered.map_or("none".into(), |id| id.to_string())
            );
        }
        Ok(Self {
            json,
            whole,
            plain: OnceLock::new(),
            added: AddedTokens::new(added)?,
            vocab_size,
        })
    }

    /// The `tokenizer.json` that it was made from.
    pub fn to_json(&self) -> &Value {
        &self.json
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The ids of the special tokens by their text.
    pub fn special_tokens(&self) -> &BTreeMap<String, u32> {
        self.added.specials()
    }

    /// The special and other added tokens.
    pub fn added_tokens(&self) -> &AddedTokens {
        &self.added
    }

    /// The ids of `text`, with special tokens handled as `policy` says.
    ///
    /// # Errors
    /// If the library fails, for example on text that it has no token for; a disallowed special token in the text.
    pub fn encode_with(&self, text: &str, policy: &SpecialTokenPolicy) -> Result<Vec<u32>> {
        self.added.check_disallowed(text, policy)?;
        let some;
        // How the text around a special token is encoded depends on it, so the library has to match it.
        let tokenizer = match &policy.allowed {
            _ if self.special_tokens().is_empty() => &self.whole,
            SpecialTokenSet::All => &self.whole,
            SpecialTokenSet::None => match self.plain.get() {
                Some(plain) => plain,
                None => {
                    let plain = Box::new(self.with_specials(&SpecialTokenSet::None)?);
                    self.plain.get_or_init(|| plain)
                }
            },
            these => {
                some = self.with_specials(these)?;
                &some
            }
        };
        let encoding = guarded(|| tokenizer.encode_fast(text, false))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The tokenizer that matches the allowed special tokens, and treats the others as text.
    fn with_specials(&self, allowed: &SpecialTokenSet) -> Result<tokenizers::Tokenizer> {
        let mut json = self.json.clone();
        let is_unigram = json["model"]["vocab"].is_array();
        if !is_unigram && *allowed == SpecialTokenSet::None {
            let mut tokenizer = self.whole.clone();
            tokenizer.set_encode_special_tokens(true);
            return Ok(tokenizer);
        }
        let mut tokens = std::mem::take(&mut json["added_tokens"]);
        for token in tokens
            .as_array_mut()
            .into_iter()
            .flatten()
            .filter(|token| token["special"] == true)
        {
            if token["content"].as_str().is_some_and(|content| allowed.has(content)) {
                token["special"] = false.into(); // so that it is always found
            } else if is_unigram {
                // Otherwise the model would match it in its vocabulary.
                gaps::mask_token(token, &mut json["model"]["vocab"]);
            }
        }
        json["added_tokens"] = tokens;
        let mut tokenizer = parse(&json)?;
        tokenizer.set_encode_special_tokens(true);
        Ok(tokenizer)
    }

    /// The text of `ids`.
    ///
    /// # Errors
    /// An unknown id.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|&&id| self.token(id).is_none()) {
            bail!(ids::unknown(*id, self.vocab_size));
        }
        guarded(|| self.whole.decode(ids, false)).context("the tokens cannot be decoded")
    }

    /// A token's text in the vocabulary.
    fn token(&self, id: u32) -> Option<String> {
        self.whole.id_to_token(id).filter(|token| !gaps::is_filler(token))
    }

    /// The bytes of a token by itself: one byte for byte fallback, else its text with spaces for `▁`.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.token(id)?;
        if self.special_tokens().contains_key(&token) {
            return Some(token.into_bytes());
        }
        if self.json["decoder"]["type"] == "ByteLevel"
            && let Some(bytes) = unicode_to_bytes(&token)
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

fn parse(json: &Value) -> Result<tokenizers::Tokenizer> {
    let mut tokenizer: tokenizers::Tokenizer = guarded(|| json.to_string().parse())?;
    // A corpus is encoded whole: no truncation, no padding.
    guarded(|| tokenizer.with_truncation(None).map(|_| ()))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

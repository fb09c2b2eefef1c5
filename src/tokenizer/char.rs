//! One token a character: the simplest tokenizer that loses nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::added::{AddedToken, AddedTokens, Segment};
use super::{SpecialTokenPolicy, ids};

/// The characters of a text, numbered in code-point order, and special tokens after them, if there are any.
///
/// ```
/// use mlx_gpt::tokenizer::CharTokenizer;
///
/// let tokenizer = CharTokenizer::from_text("hello");
/// assert_eq!(tokenizer.encode("hole")?, [1, 3, 2, 0]); // of e, h, l, o
/// assert_eq!(tokenizer.decode(&[1, 3, 2, 0])?, "hole");
/// # anyhow::Ok(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CharTokenizer {
    characters: Vec<char>,
    ids: HashMap<char, u32>,
    /// Their ids follow those of the characters without a gap.
    specials: AddedTokens,
}

impl CharTokenizer {
    /// The tokenizer of every character that occurs in `text`.
    pub fn from_text(text: &str) -> Self {
        Self::from_characters(text.chars().collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// The tokenizer of those characters, which must differ, in the order of their ids.
    pub fn from_characters(characters: Vec<char>) -> Self {
        let ids = (0u32..)
            .zip(&characters)
            .map(|(id, &character)| (character, id))
            .collect();
        Self {
            characters,
            ids,
            specials: AddedTokens::default(),
        }
    }

    /// The same tokenizer with further characters, whose ids follow the others in the order given.
    ///
    /// # Errors
    /// It has special tokens, whose ids would have to change.
    pub fn with_characters(&self, new: &[char]) -> Result<Self> {
        ensure!(
            new.is_empty() || self.specials.tokens().is_empty(),
            "the tokenizer has special tokens after its {} characters, so that it can get no more of these",
            self.characters.len()
        );
        Ok(Self {
            specials: self.specials.clone(),
            ..Self::from_characters([&self.characters, new].concat())
        })
    }

    /// The same tokenizer with further special tokens, whose ids follow its highest one in the order given.
    ///
    /// # Errors
    /// A token that is empty, or is one of its tokens already.
    pub fn with_special_tokens(&self, tokens: &[&str]) -> Result<Self> {
        let mut specials = self.specials.tokens().to_vec();
        for token in tokens {
            let known = specials.iter().any(|special| special.content == **token)
                || self.ids.keys().any(|character| character.to_string() == **token);
            ensure!(
                !token.is_empty() && !known,
                "special token {token} occurs twice, or is empty"
            );
            let id = self.characters.len() + specials.len();
            specials.push(AddedToken::special(token, id as u32));
        }
        Ok(Self {
            specials: AddedTokens::new(specials)?,
            ..self.clone()
        })
    }

    /// Number of characters and special tokens.
    pub fn vocab_size(&self) -> usize {
        self.characters.len() + self.specials.tokens().len()
    }

    /// Its characters, in the order of their ids.
    pub fn characters(&self) -> &[char] {
        &self.characters
    }

    /// Its special tokens.
    pub fn added_tokens(&self) -> &AddedTokens {
        &self.specials
    }

    /// The default prompt: a new line, or else the first token.
    pub fn default_prompt(&self) -> Vec<u32> {
        vec![self.ids.get(&'\n').copied().unwrap_or(0)]
    }

    /// The ids of `text`; special tokens in it are ordinary text.
    ///
    /// # Errors
    /// A character that the vocabulary lacks, with its position in characters, counted from 1.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, &SpecialTokenPolicy::TEXT)
    }

    /// The ids of `text`, with special tokens handled as `policy` says.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), or a disallowed special token in the text.
    pub fn encode_with(&self, text: &str, policy: &SpecialTokenPolicy) -> Result<Vec<u32>> {
        let segments = match self.specials.match_nothing(policy) {
            true => vec![Segment::Text(text)],
            false => self.specials.split(text, policy)?,
        };
        let mut ids = Vec::with_capacity(text.len());
        for segment in segments {
            match segment {
                Segment::Token(id) => ids.push(id),
                Segment::Text(part) => {
                    for (at, character) in part.char_indices() {
                        let id = self.ids.get(&character).copied();
                        ids.push(id.with_context(|| self.unknown(character, text, &part[at..]))?);
                    }
                }
            }
        }
        Ok(ids)
    }

    /// Describes a character that the vocabulary lacks: the first of `rest`, which is a part of `text`.
    fn unknown(&self, character: char, text: &str, rest: &str) -> String {
        let before = rest.as_ptr() as usize - text.as_ptr() as usize;
        format!(
            "character {character:?} (U+{:04X}) at position {} is not among the tokenizer's {} characters; leave it out, or train on text that has it",
            character as u32,
            text[..before].chars().count() + 1,
            self.characters.len()
        )
    }

    /// The text of `ids`.
    ///
    /// # Errors
    /// An unknown id.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut text = String::with_capacity(ids.len());
        for &id in ids {
            let (id, characters) = (id as usize, self.characters.len());
            match self.characters.get(id) {
                Some(character) => text.push(*character),
                None => {
                    let special = self.specials.tokens().get(id.wrapping_sub(characters));
                    let special = special.with_context(|| ids::unknown(id as u32, self.vocab_size()))?;
                    text.push_str(&special.content);
                }
            }
        }
        Ok(text)
    }

    /// The tokenizer as `tokenizer.json`, which Hugging Face's `tokenizers` loads: a word-level model without unknown
    /// token, a split at every character, and a decoder that joins.
    pub fn to_json(&self) -> Value {
        let vocab: serde_json::Map<_, _> = (0u32..)
            .zip(&self.characters)
            .map(|(id, character)| (character.to_string(), json!(id)))
            .collect();
        let added: Vec<Value> = self.specials.tokens().iter().map(AddedToken::to_json).collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": { "Regex": "[\\s\\S]" },
                "behavior": "Isolated",
                "invert": false
            },
            "post_processor": null,
            "decoder": { "type": "Fuse" },
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "" }
        })
    }

    /// Whether a `tokenizer.json` is that of a character tokenizer, and does no more: no normalizer, no added tokens but special
    /// ones that follow the characters and match their own text alone.
    pub fn describes(json: &Value) -> bool {
        let characters = json["model"]["vocab"].as_object().map_or(0, serde_json::Map::len);
        let added = json["added_tokens"].as_array().into_iter().flatten();
        let plain = (characters as u32..).zip(added).all(|(id, token)| {
            let content = token["content"].as_str().unwrap_or_default();
            AddedToken::from_json(token) == Some(AddedToken::special(content, id))
        });
        json["model"]["type"] == "WordLevel"
            && json["pre_tokenizer"]["pattern"]["Regex"] == "[\\s\\S]"
            && json["normalizer"].is_null()
            && plain
    }

    /// Reads what [`to_json`](Self::to_json) makes; errors name `file`.
    ///
    /// # Errors
    /// Another model than a character tokenizer's.
    pub fn from_json(json: &Value, file: &Path) -> Result<Self> {
        let shown = file.display();
        let model = &json["model"];
        let kind = model["type"].as_str().unwrap_or("none");
        ensure!(
            kind == "WordLevel",
            "tokenizer {shown} has a model of type {kind}; only character tokenizers (WordLevel) are supported"
        );
        let vocab = model["vocab"]
            .as_object()
            .with_context(|| format!("tokenizer {shown} has no vocabulary"))?;
        let mut by_id = BTreeMap::new();
        for (token, id) in vocab {
            let mut characters = token.chars();
            let (Some(character), None) = (characters.next(), characters.next()) else {
                anyhow::bail!("tokenizer {shown}: token {token:?} is not one character");
            };
            let id = id
                .as_u64()
                .with_context(|| format!("tokenizer {shown}: token {token:?} has id {id}"))?;
            ensure!(
                by_id.insert(id, character).is_none(),
                "tokenizer {shown}: two tokens have the id {id}"
            );
        }
        ensure!(
            !by_id.is_empty() && by_id.keys().copied().eq(0..by_id.len() as u64),
            "tokenizer {shown}: its ids are not 0, 1, 2, … without a gap"
        );
        let added = json["added_tokens"].as_array().into_iter().flatten();
        let specials: Vec<&str> = added.filter_map(|token| token["content"].as_str()).collect();
        Self::from_characters(by_id.into_values().collect())
            .with_special_tokens(&specials)
            .with_context(|| format!("tokenizer {shown} is broken"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TEXT: &str =
        "To be,\n\tor not to be: \"that\" is the question — ça va? e\u{301}\u{308} 😀 \u{2581}\u{a0}\u{0}";

    #[test]
    fn an_unknown_character_is_named_with_its_position() {
        let error = CharTokenizer::from_text("abc").encode("abca☃").unwrap_err().to_string();
        assert!(error.contains("'☃' (U+2603) at position 5"), "{error}");
    }

    #[test]
    fn saved_and_loaded_it_is_the_same_here_and_in_tokenizers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let ours = CharTokenizer::from_text(TEXT);
        fs::write(&path, ours.to_json().to_string()).unwrap();
        assert_eq!(CharTokenizer::from_json(&ours.to_json(), &path).unwrap(), ours);

        let theirs = tokenizers::Tokenizer::from_file(&path).unwrap();
        let ids = theirs.encode(TEXT, false).unwrap().get_ids().to_vec();
        assert_eq!(ids, ours.encode(TEXT).unwrap());
        assert_eq!(theirs.decode(&ids, false).unwrap(), TEXT);
        assert!(theirs.encode("☃", false).is_err());
    }

    #[test]
    fn special_tokens_follow_the_characters_here_and_in_tokenizers() {
        let ours = CharTokenizer::from_text("<|end>abc ☃");
        let ours = ours.with_characters(&['x']).unwrap();
        let ours = ours.with_special_tokens(&["<|end|>", "<|user|>"]).unwrap();
        assert_eq!(ours.vocab_size(), 12 + 2);
        let text = "<|user|>ab ☃x<|end|><|end";
        let ids = ours.encode_with(text, &SpecialTokenPolicy::ALLOW).unwrap();
        assert_eq!((ids.len(), ids[0], ids[6]), (12, 13, 12));
        assert_eq!(ours.decode(&ids).unwrap(), text);
        assert_eq!(ours.encode("<|end|>").unwrap().len(), 7, "ordinary text");

        let path = Path::new("tokenizer.json");
        assert!(CharTokenizer::describes(&ours.to_json()));
        assert_eq!(CharTokenizer::from_json(&ours.to_json(), path).unwrap(), ours);
        let theirs: tokenizers::Tokenizer = ours.to_json().to_string().parse().unwrap();
        assert_eq!(theirs.encode(text, false).unwrap().get_ids(), ids);
        assert_eq!(theirs.decode(&ids, false).unwrap(), text);
        assert_eq!(theirs.decode(&ids, true).unwrap(), "ab ☃x<|end");

        let error = ours.encode_with("<|end|>ab?", &SpecialTokenPolicy::ALLOW).unwrap_err();
        assert!(error.to_string().contains("'?' (U+003F) at position 10"), "{error}");
        for token in ["a", "", "<|end|>"] {
            assert!(ours.with_special_tokens(&[token]).is_err(), "{token:?}");
        }
        assert!(ours.with_characters(&['y']).is_err());
    }

    #[test]
    fn a_tokenizer_that_does_more_is_none_of_characters() {
        let ours = CharTokenizer::from_text("abc").to_json();
        assert!(CharTokenizer::describes(&ours));
        let mut normalizing = ours.clone();
        normalizing["normalizer"] = json!({ "type": "Lowercase" });
        assert!(!CharTokenizer::describes(&normalizing));
        let mut added = ours;
        added["added_tokens"] = json!([{ "id": 3, "content": "<end>" }]);
        assert!(!CharTokenizer::describes(&added));
    }
}

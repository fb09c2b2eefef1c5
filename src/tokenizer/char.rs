//! One token a character: the simplest tokenizer that loses nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::ids;

/// The characters of a text, numbered in code-point order.
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
        Self { characters, ids }
    }

    /// Number of characters.
    pub fn vocab_size(&self) -> usize {
        self.characters.len()
    }

    /// The default prompt: a new line, or else the first token.
    pub fn default_prompt(&self) -> Vec<u32> {
        vec![self.ids.get(&'\n').copied().unwrap_or(0)]
    }

    /// The ids of `text`.
    ///
    /// # Errors
    /// A character that the vocabulary lacks, with its position in characters, counted from 1.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        text.chars()
            .enumerate()
            .map(|(at, character)| {
                self.ids.get(&character).copied().with_context(|| {
                    format!(
                        "character {character:?} (U+{:04X}) at position {} is not among the tokenizer's {} characters; leave it out, or train on text that has it",
                        character as u32,
                        at + 1,
                        self.vocab_size()
                    )
                })
            })
            .collect()
    }

    /// The text of `ids`.
    ///
    /// # Errors
    /// An unknown id.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        ids.iter()
            .map(|&id| {
                let character = self.characters.get(id as usize).copied();
                character.with_context(|| ids::unknown(id, self.vocab_size()))
            })
            .collect()
    }

    /// The tokenizer as `tokenizer.json`, which Hugging Face's `tokenizers` loads: a word-level model without unknown
    /// token, a split at every character, and a decoder that joins.
    pub fn to_json(&self) -> Value {
        let vocab: serde_json::Map<_, _> = (0u32..)
            .zip(&self.characters)
            .map(|(id, character)| (character.to_string(), json!(id)))
            .collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [],
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

    /// Whether a `tokenizer.json` is that of a character tokenizer, and does no more: no normalizer, no added tokens.
    pub fn describes(json: &Value) -> bool {
        let absent = |part: &str| json[part].is_null() || json[part].as_array().is_some_and(Vec::is_empty);
        json["model"]["type"] == "WordLevel"
            && json["pre_tokenizer"]["pattern"]["Regex"] == "[\\s\\S]"
            && ["normalizer", "added_tokens"].into_iter().all(absent)
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
        Ok(Self::from_characters(by_id.into_values().collect()))
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

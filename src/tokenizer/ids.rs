//! The ids in a `tokenizer.json`: each token has one, and no two have the same.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The highest id must be below twice the number of tokens plus this: cl100k has 16 unused ids, and models' vocabularies are
/// rounded up. Tables are indexed by id, so a single token with a huge id would need huge ones.
const MAX_GAPS: usize = 1 << 16;

/// Longest token of a Unigram model, in bytes; those in use have some dozens. The library keeps tokens in a tree with a level
/// for each byte and drops it recursively: a token of some ten thousand bytes overflows the stack.
const MAX_UNIGRAM_TOKEN_BYTES: usize = 2048;

/// The id that a JSON value holds.
pub fn id(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

/// The error for an id that no token has.
pub fn unknown(id: u32, vocab_size: usize) -> String {
    format!("token id {id} is out of range; the tokenizer has {vocab_size} tokens")
}

/// Checks the ids and the lengths of the tokens of a `tokenizer.json`.
///
/// # Errors
/// An id that is no number from 0 on, that two tokens have, or that is far beyond the number of tokens; an added token
/// that the vocabulary has under another id; a token of a Unigram model that is longer than the library can hold.
pub fn check(json: &Value) -> Result<()> {
    let mut tokens: HashMap<u32, &str> = HashMap::new();
    let mut ids: HashMap<&str, u32> = HashMap::new();
    let mut add = |token, value: &Value| {
        let id = id(value).with_context(|| format!("token {token:?} has the id {value}"))?;
        if let Some(before) = ids.insert(token, id) {
            // An added token may be in the vocabulary too.
            ensure!(before == id, "token {token:?} has two ids, {before} and {id}");
        } else if let Some(other) = tokens.insert(id, token) {
            bail!("tokens {other:?} and {token:?} both have the id {id}");
        }
        Ok(())
    };
    match &json["model"]["vocab"] {
        Value::Object(vocab) => {
            for (token, id) in vocab {
                add(token.as_str(), id)?;
            }
        }
        // Unigram's: tokens with their scores, numbered by position.
        Value::Array(vocab) => {
            for (id, entry) in vocab.iter().enumerate() {
                let token = entry[0].as_str().context("a token of its vocabulary is not a string")?;
                ensure!(
                    token.len() <= MAX_UNIGRAM_TOKEN_BYTES,
                    "a token has {} bytes; tokens of a Unigram model are limited to {MAX_UNIGRAM_TOKEN_BYTES}",
                    token.len()
                );
                add(token, &id.into())?;
            }
        }
        _ => {} // which no loader takes
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let content = token["content"].as_str().context("an added token has no content")?;
        add(content, &token["id"])?;
    }
    let highest = tokens.keys().max().copied().unwrap_or(0) as usize;
    ensure!(
        highest < 2 * tokens.len() + MAX_GAPS,
        "token id {highest} is far beyond the number of tokens, {}",
        tokens.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_is_one_tokens_and_a_token_has_one_id() {
        let json = |vocab: Value, added: Value| json!({ "model": { "vocab": vocab }, "added_tokens": added });
        let good = [
            json(json!({ "a": 0, "b": 1 }), json!([{ "content": "b", "id": 1 }])),
            json(json!([["a", 0.5], ["b", 1]]), json!([{ "content": "c", "id": 2 }])),
            json(json!({ "a": 0 }), Value::Null),
            json(json!({ "a".repeat(1 << 20): 0 }), Value::Null),
        ];
        for json in good {
            check(&json).unwrap();
        }
        let long = "a".repeat(MAX_UNIGRAM_TOKEN_BYTES + 1);
        for (vocab, added, expected) in [
            (json!([[long, 0.5]]), Value::Null, "a token has 2049 bytes"),
            (
                json!({ "a": 1, "b": 1 }),
                json!([]),
                "tokens \"a\" and \"b\" both have the id 1",
            ),
            (
                json!({ "a": 0 }),
                json!([{ "content": "b", "id": 0 }]),
                "both have the id 0",
            ),
            (
                json!({ "a": 0 }),
                json!([{ "content": "a", "id": 1 }]),
                "token \"a\" has two ids",
            ),
            (json!({ "a": -1 }), json!([]), "token \"a\" has the id -1"),
            (json!({ "a": 4294967296_u64 }), json!([]), "has the id 4294967296"),
            (
                json!({ "a": 4294967295_u64 }),
                json!([]),
                "far beyond the number of tokens, 1",
            ),
            (json!([["a", 0.5], ["a", 1]]), json!([]), "token \"a\" has two ids"),
            (json!([[1]]), json!([]), "is not a string"),
            (json!({}), json!([{ "id": 1 }]), "no content"),
        ] {
            let error = check(&json(vocab, added)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

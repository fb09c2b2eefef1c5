//! The ids in a `tokenizer.json`: each token has one, and no two have the same.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Ids without a token that a vocabulary may have beside as many as it has tokens: cl100k has 16, and models' vocabularies
/// are rounded up. Tables go by id, so that a file of one token with a huge id would ask for huge ones.
const GAPS: usize = 1 << 16;

/// Bytes of a Unigram model's token; those in use have some dozens. The library keeps them in a tree with a level for each
/// byte, and goes down all levels at once to take it apart: a token of some ten thousand bytes overflows the stack.
const LONGEST_OF_UNIGRAM: usize = 2048;

/// # Errors
/// An id that is no number from 0 on, that two tokens have, or that is far beyond the number of tokens; an added token
/// that the vocabulary has under another id; a token of a Unigram model that is longer than the library can hold.
pub fn check(json: &Value) -> Result<()> {
    let mut tokens: HashMap<u32, &str> = HashMap::new();
    let mut ids: HashMap<&str, u32> = HashMap::new();
    let mut add = |token, id: &Value| {
        let id = number(id).with_context(|| format!("token {token:?} has the id {id}"))?;
        if let Some(before) = ids.insert(token, id) {
            // An added token may stand in the vocabulary too.
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
        // Unigram's: tokens with their scores, numbered in their order.
        Value::Array(vocab) => {
            for (id, entry) in vocab.iter().enumerate() {
                let token = entry[0].as_str().context("a token of its vocabulary is no text")?;
                ensure!(
                    token.len() <= LONGEST_OF_UNIGRAM,
                    "a token has {} bytes; {LONGEST_OF_UNIGRAM} is the most that a Unigram model can have",
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
        highest < 2 * tokens.len() + GAPS,
        "token id {highest} is far beyond the number of tokens, {}",
        tokens.len()
    );
    Ok(())
}

fn number(id: &Value) -> Option<u32> {
    id.as_u64()?.try_into().ok()
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
        let long = "a".repeat(LONGEST_OF_UNIGRAM + 1);
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
            (json!([[1]]), json!([]), "is no text"),
            (json!({}), json!([{ "id": 1 }]), "no content"),
        ] {
            let error = check(&json(vocab, added)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

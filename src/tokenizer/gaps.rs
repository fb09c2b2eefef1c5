//! Added tokens whose ids leave gaps after the vocabulary, or between each other.
//!
//! Hugging Face's library gives an added token that is not in the model's vocabulary the next id, whatever its
//! `tokenizer.json` states. A model's embedding has its row at the stated id, so the file is changed in such a way that
//! the library computes the same id.

use std::collections::HashSet;

use serde_json::{Value, json};

/// Prefix of the text of fillers: U+FFFF, a noncharacter, which occurs in no text.
const FILLER: char = '\u{ffff}';

/// Whether a token is a filler for an unused id.
pub fn is_filler(token: &str) -> bool {
    token.starts_with(FILLER)
}

/// The text of the filler for `id`.
fn filler_token(id: u64) -> String {
    format!("{FILLER}{id}")
}

/// Keeps an added token's id, but under a text that never occurs.
pub fn mask_token(token: &mut Value, vocab: &mut Value) {
    let Some(id) = token["id"].as_u64() else { return };
    let name = usize::try_from(id).ok().and_then(|id| vocab.get_mut(id)?.get_mut(0));
    if let Some(name) = name.filter(|name| **name == token["content"]) {
        *name = filler_token(id).into();
    }
    token["content"] = filler_token(id).into();
}

/// Changes a `tokenizer.json`, whose ids `ids.rs` has checked, so that the library gives each added token its stated id. A
/// file for which it already does is left unchanged.
pub fn fill_gaps(json: &mut Value) {
    let Some(added) = json["added_tokens"].as_array() else {
        return;
    };
    let token = |token: &Value| Some((token["id"].as_u64()?, token["content"].as_str()?.to_owned()));
    let Some(added) = added.iter().map(token).collect::<Option<Vec<_>>>() else {
        return;
    };
    match &mut json["model"]["vocab"] {
        // This kind of vocabulary states its ids, and may contain added tokens.
        Value::Object(vocab) => {
            let next = (vocab.len() as u64..).zip(added.iter().filter(|(_, content)| !vocab.contains_key(content)));
            if next.clone().any(|(next, (id, _))| next != *id) {
                for (id, content) in added {
                    vocab.entry(content).or_insert_with(|| id.into());
                }
            }
        }
        // Unigram's tokens are numbered by position, so none may be missing.
        Value::Array(vocab) => {
            let known: HashSet<&str> = vocab.iter().filter_map(|entry| entry[0].as_str()).collect();
            let mut added: Vec<u64> = added
                .iter()
                .filter(|(_, content)| !known.contains(content.as_str()))
                .map(|(id, _)| *id)
                .collect();
            let is_in_order = added.is_sorted();
            added.sort_unstable();
            let Some((&first, &last)) = added.first().zip(added.last()) else {
                return;
            };
            let size = vocab.len() as u64;
            if first == size && is_in_order && last - first + 1 == added.len() as u64 {
                return;
            }
            // With the lowest score of all, from which the cost of an unknown character is computed.
            let scores = vocab.iter().filter_map(|entry| entry[1].as_f64());
            let lowest = scores.fold(f64::INFINITY, f64::min);
            let lowest = if lowest.is_finite() { lowest } else { 0.0 };
            vocab.extend((size..first).map(|id| json!([filler_token(id), lowest])));
            let taken: HashSet<u64> = added.into_iter().collect();
            if let Some(tokens) = json["added_tokens"].as_array_mut() {
                let gaps = (first..last).filter(|id| !taken.contains(id));
                tokens.extend(gaps.map(|id| {
                    json!({
                        "id": id, "content": filler_token(id), "single_word": false, "lstrip": false,
                        "rstrip": false, "normalized": false, "special": true
                    })
                }));
                tokens.sort_by_key(|token| token["id"].as_u64());
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids that the library gives the tokens.
    fn ids(mut json: Value, tokens: &[&str]) -> Vec<Option<u32>> {
        fill_gaps(&mut json);
        let library: tokenizers::Tokenizer = json.to_string().parse().unwrap();
        tokens.iter().map(|token| library.token_to_id(token)).collect()
    }

    fn with(model: Value, added: &[(u32, &str)]) -> Value {
        let added = added.iter().map(|(id, content)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true
            })
        });
        json!({ "version": "1.0", "added_tokens": added.collect::<Vec<_>>(), "model": model })
    }

    #[test]
    fn the_library_gives_the_stated_ids() {
        let models = [
            json!({ "type": "BPE", "vocab": { "a": 0, "b": 1, "c": 2 }, "merges": [] }),
            json!({ "type": "WordLevel", "vocab": { "a": 0, "b": 1, "c": 2 }, "unk_token": "a" }),
            json!({ "type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0], ["b", -1.0], ["c", -2.0]] }),
        ];
        for model in models {
            for added in [
                &[(7, "<x>")][..],
                &[(3, "<x>"), (7, "<y>"), (5, "<z>")],
                &[(2, "c"), (4, "<x>")],
                &[(5, "<x>"), (3, "<y>")],
            ] {
                let names: Vec<&str> = added.iter().map(|(_, content)| *content).collect();
                let expected: Vec<Option<u32>> = added.iter().map(|(id, _)| Some(*id)).collect();
                assert_eq!(ids(with(model.clone(), added), &names), expected, "{model}");
            }
            let sound = with(model, &[(2, "c"), (3, "<x>"), (4, "<y>")]);
            let mut filled = sound.clone();
            fill_gaps(&mut filled);
            assert_eq!(filled, sound);
        }
        // A hole within the vocabulary.
        let model = json!({ "type": "BPE", "vocab": { "a": 0, "c": 2 }, "merges": [] });
        assert_eq!(ids(with(model, &[(1, "<x>")]), &["<x>", "c"]), [Some(1), Some(2)]);
    }
}

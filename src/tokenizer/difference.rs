//! Whether two tokenizers give the same ids, and where not, how they differ.
//!
//! They are compared as `tokenizer.json`s in the canonical form that Hugging Face's library writes: the layout of a file,
//! and what it says of decoding, padding and truncation, changes no id.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use serde_json::Value;

use super::added::AddedTokens;
use super::{AddedToken, Tokenizer};

/// The parts of a tokenizer that determine the ids.
struct Description {
    /// Each id's token, as the vocabulary has it.
    tokens: BTreeMap<u32, String>,
    added: Vec<AddedToken>,
    normalizer: Value,
    pre_tokenizer: Value,
    /// The model, without its vocabulary.
    model: Value,
}

/// How the first tokenizer's ids differ from the second's, in words; `None` if they don't.
///
/// # Errors
/// As [`Tokenizer::to_json`].
pub fn between(first: &Tokenizer, second: &Tokenizer) -> Result<Option<String>> {
    let (first, second) = (Description::of(first)?, Description::of(second)?);
    if first.tokens.len() != second.tokens.len() {
        let counts = (first.tokens.len(), second.tokens.len());
        return Ok(Some(format!("it has {} tokens against {}", counts.0, counts.1)));
    }
    let tokens = first.tokens.iter().zip(&second.tokens);
    for ((id, token), (other_id, other)) in tokens {
        if id != other_id {
            return Ok(Some(format!(
                "{token:?} is token {id} against {other:?}, token {other_id}"
            )));
        }
        if token != other {
            return Ok(Some(format!("token {id} is {token:?} against {other:?}")));
        }
    }
    if let Some(difference) = between_added(&first.added, &second.added) {
        return Ok(Some(difference));
    }
    for (name, one, other) in [
        ("its normalizer", &first.normalizer, &second.normalizer),
        ("its pre_tokenizer", &first.pre_tokenizer, &second.pre_tokenizer),
    ] {
        if one != other {
            return Ok(Some(format!("{name} is {} against {}", short(one), short(other))));
        }
    }
    Ok(between_models(&first.model, &second.model))
}

impl Description {
    fn of(tokenizer: &Tokenizer) -> Result<Self> {
        let json = tokenizer.to_json().to_string();
        let library: tokenizers::Tokenizer = json.parse().map_err(|error| anyhow!("{error}"))?;
        let mut json = serde_json::to_value(&library)?;
        let tokens = library
            .get_vocab(true)
            .into_iter()
            .map(|(token, id)| (id, token))
            .collect();
        let added = json["added_tokens"].as_array().into_iter().flatten();
        let mut added: Vec<AddedToken> = added.filter_map(AddedToken::from_json).collect();
        if json["normalizer"].is_null() {
            added = AddedTokens::new(added)?.tokens().to_vec();
        }
        forget_offsets(&mut json["pre_tokenizer"]);
        let mut model = json["model"].take();
        if let Some(model) = model.as_object_mut() {
            // Unigram's stays: it has the scores.
            if model.get("vocab").is_some_and(Value::is_object) {
                model.remove("vocab");
            }
            // What is left out, null, false and empty are the same.
            model.retain(|_, value| !(value.is_null() || *value == false || *value == ""));
        }
        Ok(Self {
            tokens,
            added,
            normalizer: json["normalizer"].take(),
            pre_tokenizer: json["pre_tokenizer"].take(),
            model,
        })
    }
}

/// Leaves out what only says where in a text a token was.
fn forget_offsets(json: &mut Value) {
    match json {
        Value::Object(members) => {
            members.remove("trim_offsets");
            members.values_mut().for_each(forget_offsets);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_offsets),
        _ => {}
    }
}

fn between_added(first: &[AddedToken], second: &[AddedToken]) -> Option<String> {
    for (some, others, whose) in [(first, second, "it"), (second, first, "the other")] {
        for token in some {
            let kind = if token.special { "a special" } else { "an added" };
            match others.iter().find(|other| other.content == token.content) {
                Some(other) if other == token => {}
                Some(other) if other.special == token.special => {
                    return Some(format!(
                        "{} treats the surrounding text differently (single_word, lstrip, rstrip, normalized)",
                        token.content
                    ));
                }
                _ => return Some(format!("{} is {kind} token of {whose} alone", token.content)),
            }
        }
    }
    None
}

fn between_models(first: &Value, second: &Value) -> Option<String> {
    if first == second {
        return None;
    }
    let (Some(one), Some(other)) = (first.as_object(), second.as_object()) else {
        return Some("its model differs".into());
    };
    let keys = one.keys().chain(other.keys());
    let key = keys.into_iter().find(|key| one.get(*key) != other.get(*key))?;
    let (one, other) = (&first[key], &second[key]);
    if let (Value::Array(one), Value::Array(other)) = (one, other) {
        if let Some(place) = one.iter().zip(other).position(|(one, other)| one != other) {
            return Some(format!(
                "number {place} of its {key} is {} against {}",
                one[place], other[place]
            ));
        }
        return Some(format!("it has {} {key} against {}", one.len(), other.len()));
    }
    Some(format!("{key} of its model is {} against {}", short(one), short(other)))
}

/// A value in a line.
fn short(value: &Value) -> String {
    const MAX_CHARACTERS: usize = 120;
    let text = if value.is_null() {
        "none".to_owned()
    } else {
        value.to_string()
    };
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Bpe, CharTokenizer, Pattern, train_unigram};
    use super::*;

    const TEXT: &str = "the cat sat on the mat, the cat ate the rat";

    fn bpe(pattern: Pattern, specials: &[&str]) -> Tokenizer {
        Bpe::train(TEXT, 264 + specials.len(), pattern, specials, |_| ())
            .unwrap()
            .into()
    }

    fn difference(first: &Tokenizer, second: &Tokenizer) -> String {
        between(first, second).unwrap().unwrap_or_default()
    }

    /// The tokenizer after a change to its `tokenizer.json`.
    fn changed(tokenizer: &Tokenizer, change: impl FnOnce(&mut Value)) -> Tokenizer {
        let mut json = tokenizer.to_json();
        change(&mut json);
        Tokenizer::from_json(json, "x".as_ref()).unwrap()
    }

    #[test]
    fn what_changes_no_id_is_no_difference() {
        let tokenizer = bpe(Pattern::Gpt2, &["<a>", "<b>"]);
        let changes: [fn(&mut Value); 5] = [
            |json| json["added_tokens"][0]["normalized"] = true.into(),
            |json| {
                json["post_processor"] =
                    json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true })
            },
            |json| json["pre_tokenizer"]["trim_offsets"] = false.into(),
            |json| json["model"]["continuing_subword_prefix"] = "".into(),
            |json| {
                let merges = json["model"]["merges"].as_array_mut().unwrap();
                for merge in merges {
                    *merge = merge.as_str().unwrap().split(' ').collect();
                }
            },
        ];
        for change in changes {
            let other = changed(&tokenizer, change);
            assert!(matches!(other, Tokenizer::Bpe(_)));
            assert_eq!(between(&tokenizer, &other).unwrap(), None);
        }
        let unigram = train_unigram(TEXT, 400, &["<a>"]).unwrap().into();
        let other = changed(&unigram, |json| json["decoder"] = Value::Null);
        assert_eq!(between(&unigram, &other).unwrap(), None);
    }

    #[test]
    fn a_difference_is_named() {
        let tokenizer = bpe(Pattern::Gpt2, &["<a>", "<b>"]);
        let of = |other: &Tokenizer| difference(&tokenizer, other);
        assert_eq!(of(&bpe(Pattern::Gpt2, &[])), "it has 266 tokens against 264");
        assert_eq!(
            of(&bpe(Pattern::Gpt2, &["<a>", "<c>"])),
            "token 265 is \"<b>\" against \"<c>\""
        );
        assert!(of(&bpe(Pattern::Gpt4, &["<a>", "<b>"])).starts_with("its pre_tokenizer is "));
        let other = changed(&tokenizer, |json| json["added_tokens"][0]["special"] = false.into());
        assert_eq!(of(&other), "<a> is a special token of it alone");
        let other = changed(&tokenizer, |json| json["added_tokens"][0]["lstrip"] = true.into());
        assert!(of(&other).starts_with("<a> treats the surrounding text differently"));
        let other = changed(&tokenizer, |json| {
            json["added_tokens"].as_array_mut().unwrap().pop();
        });
        assert_eq!(of(&other), "<b> is a special token of it alone");
        let characters = [CharTokenizer::from_text("abc"), CharTokenizer::from_text("abd")].map(Tokenizer::from);
        assert_eq!(
            difference(&characters[0], &characters[1]),
            "token 2 is \"c\" against \"d\""
        );
        let unigram = Tokenizer::from(train_unigram(TEXT, 400, &["<a>"]).unwrap());
        let other = changed(&unigram, |json| json["model"]["vocab"][300][1] = (-1.5).into());
        assert!(difference(&unigram, &other).starts_with("number 300 of its vocab is "));
    }
}

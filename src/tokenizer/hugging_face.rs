//! Byte-level BPE as `tokenizer.json`, the format of Hugging Face's `tokenizers`.

use std::collections::HashMap;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::basic::Pair;
use super::byte_unicode::{from_characters, to_characters};
use super::{Bpe, END_OF_TEXT, Pattern};

/// The tokenizer as `tokenizer.json`, which `tokenizers` loads and encodes identically with.
///
/// # Errors
/// As [`Bpe::merges`].
pub fn to_json(bpe: &Bpe) -> Result<Value> {
    let mut vocab: Map<String, Value> = bpe
        .ordinary_tokens()
        .map(|(id, token)| (to_characters(token), json!(id)))
        .collect();
    // Special tokens stand in the model's vocabulary too: elsewhere, the library would number them itself.
    vocab.extend(
        bpe.special_tokens()
            .iter()
            .map(|(token, &id)| (token.clone(), json!(id))),
    );
    let mut specials: Vec<_> = bpe.special_tokens().iter().collect();
    specials.sort_by_key(|&(_, id)| id);
    let added_tokens: Vec<Value> = specials
        .into_iter()
        .map(|(token, id)| added_token(token, *id))
        .collect();
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer(bpe.pattern()),
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": bpe.written_merges()?
        }
    }))
}

/// What `transformers` needs beside `tokenizer.json`.
pub fn config_json(specials: &[&str], context: usize) -> Value {
    let end_of_text = specials.contains(&END_OF_TEXT).then_some(END_OF_TEXT);
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": context
    });
    if let Some(token) = end_of_text {
        config["bos_token"] = json!(token);
        config["eos_token"] = json!(token);
    }
    config
}

/// A special token as `added_tokens` lists it.
pub fn added_token(content: &str, id: u32) -> Value {
    json!({
        "id": id,
        "content": content,
        "single_word": false,
        "lstrip": false,
        "rstrip": false,
        "normalized": false,
        "special": true
    })
}

fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex })
}

fn pre_tokenizer(pattern: Pattern) -> Value {
    match pattern {
        Pattern::Gpt2 => byte_level(true),
        Pattern::Gpt4 => json!({
            "type": "Sequence",
            "pretokenizers": [
                { "type": "Split", "pattern": { "Regex": pattern.regex() }, "behavior": "Isolated", "invert": false },
                byte_level(false)
            ]
        }),
    }
}

/// The byte-level BPE tokenizer that a `tokenizer.json` describes; none where it is of another kind, or does anything
/// that [`Bpe`] doesn't, so that a tokenizer which is loaded here encodes exactly as `tokenizers` would.
pub fn from_json(json: &Value) -> Option<Bpe> {
    let model = &json["model"];
    let plain = model["type"] == "BPE"
        && json["normalizer"].is_null()
        && model["dropout"].is_null()
        && ["continuing_subword_prefix", "end_of_word_suffix"]
            .iter()
            .all(|key| model[key].as_str().unwrap_or_default().is_empty())
        && ["byte_fallback", "ignore_merges"].iter().all(|key| model[key] != true)
        && json["decoder"]["type"] == "ByteLevel";
    let pattern = Pattern::ALL
        .into_iter()
        .find(|&pattern| splits_by(&json["pre_tokenizer"], pattern))?;
    if !plain {
        return None;
    }

    let mut specials = Vec::new();
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let ordinary = ["single_word", "lstrip", "rstrip", "normalized"]
            .iter()
            .any(|key| token[key] == true);
        if ordinary || token["special"] != true {
            return None;
        }
        specials.push((token["content"].as_str()?.to_owned(), id(&token["id"])?));
    }
    let mut ids: HashMap<&str, u32> = HashMap::new();
    for (token, value) in model["vocab"].as_object()? {
        ids.insert(token, id(value)?);
    }

    let mut tokens: Vec<(Box<[u8]>, u32)> = Vec::with_capacity(ids.len());
    for byte in 0..=u8::MAX {
        tokens.push(([byte].into(), *ids.get(to_characters(&[byte]).as_str())?));
    }
    let mut merges: Vec<Pair> = Vec::new();
    for merge in model["merges"].as_array()? {
        let (left, right) = match merge {
            Value::String(merge) => merge.split_once(' ')?,
            _ => (merge[0].as_str()?, merge[1].as_str()?),
        };
        let token = [left, right].concat();
        merges.push((*ids.get(left)?, *ids.get(right)?));
        tokens.push((from_characters(&token)?.into(), *ids.get(token.as_str())?));
    }
    // Nothing may be left over that neither a byte, nor a merge, nor a special token accounts for.
    let is_special = |token: &str| specials.iter().any(|(special, _)| special == token);
    let ordinary = ids.keys().filter(|token| !is_special(token)).count();
    if ordinary != tokens.len() {
        return None;
    }
    // Ids must be in the order of the merges, and each token the work of the very merge that is listed for it: then
    // merging by ids and repeating the list come to the same.
    let bpe = Bpe::new(tokens, pattern, specials).ok()?;
    (bpe.merges().ok()? == merges).then_some(bpe)
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

/// Whether a pre-tokenizer does what [`pre_tokenizer`] makes of `pattern`, in any of the ways to write it.
fn splits_by(json: &Value, pattern: Pattern) -> bool {
    let is_byte_level = |json: &Value, use_regex: bool| {
        json["type"] == "ByteLevel"
            && json["add_prefix_space"] == false
            && json["use_regex"].as_bool().unwrap_or(true) == use_regex
    };
    let is_split = |json: &Value| {
        json["type"] == "Split"
            && json["behavior"] == "Isolated"
            && json["invert"] != true
            && json["pattern"]["Regex"] == pattern.regex()
    };
    match json["pretokenizers"].as_array().map(Vec::as_slice) {
        None => pattern == Pattern::Gpt2 && is_byte_level(json, true),
        Some([split, bytes]) => is_split(split) && is_byte_level(bytes, false),
        Some(_) => false,
    }
}

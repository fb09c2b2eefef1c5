//! Byte-level BPE as `tokenizer.json`, the format of Hugging Face's `tokenizers`.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::added::AddedToken;
use super::byte_unicode::{bytes_to_unicode, unicode_to_bytes};
use super::ids::id;
use super::{Bpe, END_OF_TEXT, Pair, Pattern, PreTokenizer};

/// The tokenizer as `tokenizer.json`, with which `tokenizers` gives the same ids.
pub fn to_json(bpe: &Bpe) -> Value {
    let mut vocab: Map<String, Value> = bpe
        .ordinary_tokens()
        .map(|(id, token)| (bytes_to_unicode(token), json!(id)))
        .collect();
    // Added tokens are in the model's vocabulary too: otherwise the library would number them itself.
    let mut added: Vec<&AddedToken> = bpe.added_tokens().tokens().iter().collect();
    added.sort_by_key(|token| &token.content);
    vocab.extend(added.iter().map(|token| (token.content.clone(), json!(token.id))));
    let added_tokens: Vec<Value> = bpe.added_tokens().tokens().iter().map(AddedToken::to_json).collect();
    // If some token has no merge, all pairs are listed, and whole chunks match first.
    let merges = bpe.written_merges();
    let ignore_merges = merges.is_err();
    let merges = merges.unwrap_or_else(|_| bpe.written_pairs());
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer(bpe),
        "post_processor": null,
        "decoder": byte_level(false, true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": ignore_merges,
            "vocab": vocab,
            "merges": merges
        }
    })
}

/// The `tokenizer_config.json` that `transformers` needs beside `tokenizer.json`; without it, `AutoTokenizer` builds GPT-2's
/// own tokenizer.
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

fn byte_level(add_prefix_space: bool, use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex })
}

fn pre_tokenizer(bpe: &Bpe) -> Value {
    match bpe.pre_tokenizer() {
        PreTokenizer::Pattern(Pattern::Gpt2) => byte_level(bpe.add_prefix_space(), true),
        other => {
            let split = json!({
                "type": "Split", "pattern": { "Regex": other.regex() }, "behavior": "Isolated", "invert": false
            });
            json!({ "type": "Sequence", "pretokenizers": [split, byte_level(false, false)] })
        }
    }
}

/// The byte-level BPE tokenizer of a `tokenizer.json`; `None` if it is of another kind, or does anything that [`Bpe`]
/// doesn't. So a tokenizer that is loaded here gives exactly the ids of `tokenizers`.
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
    if !plain {
        return None;
    }
    let (pre_tokenizer, add_prefix_space) = read_pre_tokenizer(&json["pre_tokenizer"])?;
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let added: Vec<AddedToken> = added.map(AddedToken::from_json).collect::<Option<_>>()?;
    let mut ids: HashMap<&str, u32> = HashMap::new();
    for (token, value) in model["vocab"].as_object()? {
        ids.insert(token, id(value)?);
    }

    let mut tokens: Vec<(Box<[u8]>, u32)> = Vec::with_capacity(ids.len());
    for byte in 0..=u8::MAX {
        tokens.push(([byte].into(), *ids.get(bytes_to_unicode(&[byte]).as_str())?));
    }
    let mut merges: Vec<Pair> = Vec::new();
    for merge in model["merges"].as_array()? {
        let (left, right) = match merge {
            Value::String(merge) => merge.split_once(' ')?,
            _ => (merge[0].as_str()?, merge[1].as_str()?),
        };
        let token = [left, right].concat();
        merges.push((*ids.get(left)?, *ids.get(right)?));
        tokens.push((unicode_to_bytes(&token)?.into(), *ids.get(token.as_str())?));
    }
    // Every token must be a byte, the result of a merge, or an added token.
    let added_contents: HashSet<&str> = added.iter().map(|token| token.content.as_str()).collect();
    let ordinary = ids.keys().filter(|token| !added_contents.contains(*token)).count();
    if ordinary != tokens.len() {
        return None;
    }
    // Ids must be in the order of the merges, and each token the result of the merge that is listed for it: then merging by
    // ids is the same as applying the list.
    let bpe = Bpe::new(tokens, pre_tokenizer, added).ok()?;
    (bpe.merges().ok()? == merges).then(|| bpe.with_prefix_space(add_prefix_space))
}

/// The split pattern of a byte-level pre-tokenizer, and its `add_prefix_space`; `None` if it does anything else.
fn read_pre_tokenizer(json: &Value) -> Option<(PreTokenizer, bool)> {
    let is_byte_level = |json: &Value, use_regex| {
        json["type"] == "ByteLevel" && json["use_regex"].as_bool().unwrap_or(true) == use_regex
    };
    match json["pretokenizers"].as_array().map(Vec::as_slice) {
        None if is_byte_level(json, true) => Some((Pattern::Gpt2.into(), json["add_prefix_space"].as_bool()?)),
        Some([split, bytes])
            if split["type"] == "Split"
                && split["behavior"] == "Isolated"
                && split["invert"] != true
                && is_byte_level(bytes, false)
                && bytes["add_prefix_space"] == false =>
        {
            let regex = split["pattern"]["Regex"].as_str()?;
            Some((PreTokenizer::from_regex(regex).ok()?, false))
        }
        _ => None,
    }
}

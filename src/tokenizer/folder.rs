//! The tokenizer of a folder in Hugging Face's layout: a vocabulary in one of several formats, and the tokens that
//! `transformers` adds to it when it reads the folder.
//!
//! | file | what is read |
//! |---|---|
//! | `tokenizer.json` | all |
//! | `vocab.json` and `merges.txt`, a sentencepiece `.model`, or a `.tiktoken` | all, where there is no `tokenizer.json` |
//! | `tokenizer_config.json` | the tokens that it names (`eos_token`, `additional_special_tokens`, …), `added_tokens_decoder`, `add_prefix_space` |
//! | `special_tokens_map.json`, `added_tokens.json` | their tokens, where there is no `added_tokens_decoder` |
//! | `config.json` | the model's number of tokens |

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::any::ensure_has_model;
use super::{AddedToken, END_OF_TEXT, Tokenizer, ids};
use crate::disk::files;

/// Hugging Face's name for a tokenizer in one file.
pub const TOKENIZER: &str = "tokenizer.json";
/// The file that `transformers` needs beside it.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";
/// The file in which newer versions of `transformers` keep a chat template.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// The file of the model's configuration.
pub const MODEL_CONFIG: &str = "config.json";

/// The files with fixed names; others are recognised by their extensions.
const NAMES: [&str; 7] = [
    TOKENIZER,
    VOCAB,
    MERGES,
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS_MAP,
    ADDED_TOKENS,
    CHAT_TEMPLATE,
];

/// The keys of standard tokens, in the order in which `transformers` adds those that the vocabulary lacks.
const STANDARD_TOKEN_KEYS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Whether a file of that name is part of a tokenizer.
pub fn is_tokenizer_file(name: &str) -> bool {
    NAMES.contains(&name) || name.ends_with(".tiktoken") || name.ends_with(".model")
}

/// Whether a folder has a tokenizer.
pub fn has_tokenizer(folder: &Path) -> bool {
    vocabulary(folder).is_some()
}

/// Reads the tokenizer of a folder.
///
/// # Errors
/// There is none, or one of its files is broken.
pub fn read(folder: &Path) -> Result<Tokenizer> {
    let vocabulary = vocabulary(folder).with_context(|| {
        format!(
            "tokenizer {} cannot be read: the folder has no {TOKENIZER}, nor {VOCAB} with {MERGES}, nor a .model or .tiktoken file; give char, gpt2, cl100k or such a file or folder",
            folder.display()
        )
    })?;
    let config = object(&folder.join(TOKENIZER_CONFIG))?;
    let (file, mut json, defaults) = match vocabulary {
        Vocabulary::TokenizerJson(file) => {
            let mut json = Tokenizer::json_of(&file)?;
            if is_gpt2_tokenizer_class(&config) {
                set_prefix_space(&mut json["pre_tokenizer"], &config);
            }
            (file, json, Vec::new())
        }
        Vocabulary::Gpt2(file) => (file, gpt2(folder, &config)?, gpt2_default_tokens()),
        Vocabulary::Other(file) => {
            let json = Tokenizer::load_file(&file)?.to_json();
            (file, json, Vec::new())
        }
    };
    ensure_has_model(&json, &file)?;
    let mut new = PendingTokens::after(&json, rows_of_model(folder));
    let mut names = defaults;
    names.retain(|(_, token)| new.has_id_for(&token.content));
    if let Some(decoder) = config.get("added_tokens_decoder") {
        for (id, token) in numbered(decoder, &folder.join(TOKENIZER_CONFIG))? {
            new.add(token, Some(id));
        }
        names.extend(named(&config));
    } else {
        // The older file's tokens come before the newer one's.
        let map = object(&folder.join(SPECIAL_TOKENS_MAP))?;
        names.extend(named(&config));
        names.extend(named(&map));
        let path = folder.join(ADDED_TOKENS);
        for (content, id) in object(&path)? {
            let id =
                ids::id(&id).with_context(|| format!("tokenizer {}: token {content:?} has no id", path.display()))?;
            let special = names.iter().any(|(_, token)| token.content == content);
            let token = AddedToken {
                special,
                normalized: !special,
                ..AddedToken::special(&content, id)
            };
            new.add(token, Some(id));
        }
    }
    for token in in_order(names) {
        new.add(token, None);
    }
    new.put_into(&mut json, folder);
    Tokenizer::from_json(json, &file)
}

/// The file with a folder's vocabulary.
enum Vocabulary {
    TokenizerJson(PathBuf),
    /// `vocab.json`, beside which there is `merges.txt`.
    Gpt2(PathBuf),
    Other(PathBuf),
}

fn vocabulary(folder: &Path) -> Option<Vocabulary> {
    let place = |name: &str| Some(folder.join(name)).filter(|path| path.exists());
    if let Some(file) = place(TOKENIZER) {
        return Some(Vocabulary::TokenizerJson(file));
    }
    if let (Some(file), Some(_)) = (place(VOCAB), place(MERGES)) {
        return Some(Vocabulary::Gpt2(file));
    }
    let mut others: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "model" || end == "tiktoken"))
        .collect();
    others.sort();
    others.into_iter().next().map(Vocabulary::Other)
}

type Object = serde_json::Map<String, Value>;

/// A file that holds a JSON object, or nothing where there is no such file.
fn object(path: &Path) -> Result<Object> {
    if !path.exists() {
        return Ok(Object::new());
    }
    let read = || anyhow::Ok(serde_json::from_slice(&files::read(path)?)?);
    read().with_context(|| format!("tokenizer {} is not a JSON object", path.display()))
}

/// GPT-2's own pair of files as `tokenizer.json`: ids by token, and merges in the order in which they were learned.
fn gpt2(folder: &Path, config: &Object) -> Result<Value> {
    let read = |name: &str| {
        let path = folder.join(name);
        files::read(&path)
            .and_then(|bytes| Ok(String::from_utf8(bytes)?))
            .with_context(|| format!("tokenizer {} cannot be read", path.display()))
    };
    let vocab: Value = serde_json::from_str(&read(VOCAB)?)
        .with_context(|| format!("tokenizer {} is not valid JSON", folder.join(VOCAB).display()))?;
    let merges = read(MERGES)?;
    let merges = merges
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.is_empty());
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let mut pre_tokenizer = byte_level.clone();
    set_prefix_space(&mut pre_tokenizer, config);
    Ok(json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocab, "merges": merges.collect::<Vec<_>>() }
    }))
}

/// The special tokens that GPT-2's tokenizer class sets by default.
fn gpt2_default_tokens() -> Vec<(String, AddedToken)> {
    ["bos_token", "eos_token", "unk_token"]
        .map(|name| (name.to_owned(), AddedToken::special(END_OF_TEXT, 0)))
        .into()
}

/// Whether the configuration is of GPT-2's tokenizer class, the only one whose `add_prefix_space` overrides a
/// `tokenizer.json`.
fn is_gpt2_tokenizer_class(config: &Object) -> bool {
    let class = config.get("tokenizer_class").and_then(Value::as_str);
    class.is_some_and(|class| ["GPT2Tokenizer", "GPT2TokenizerFast"].contains(&class))
}

fn set_prefix_space(pre_tokenizer: &mut Value, config: &Object) {
    if let Some(Value::Bool(add)) = config.get("add_prefix_space")
        && pre_tokenizer["type"] == "ByteLevel"
    {
        pre_tokenizer["add_prefix_space"] = (*add).into();
    }
}

/// The tokens of `added_tokens_decoder`, which is an object by ids, in their order.
fn numbered(decoder: &Value, path: &Path) -> Result<Vec<(u32, AddedToken)>> {
    let mut tokens = Vec::new();
    for (id, token) in decoder.as_object().into_iter().flatten() {
        let token = id.parse().ok().zip(token_of(token, false));
        let token = token.with_context(|| {
            format!(
                "tokenizer {}: {id:?} of its added_tokens_decoder is not the id of a token",
                path.display()
            )
        })?;
        tokens.push(token);
    }
    tokens.sort();
    Ok(tokens)
}

/// The special tokens of a configuration, with their keys; tokens of lists have none of their own.
fn named(config: &Object) -> Vec<(String, AddedToken)> {
    let mut tokens = Vec::new();
    for (name, value) in config {
        match value {
            Value::Array(several) if is_token_list(name) => {
                tokens.extend(
                    several
                        .iter()
                        .filter_map(|token| Some((String::new(), token_of(token, true)?))),
                );
            }
            Value::Object(several) if name == "extra_special_tokens" => {
                let several = several.iter();
                tokens.extend(several.filter_map(|(name, token)| Some((name.clone(), token_of(token, true)?))));
            }
            token if name.ends_with("_token") => {
                tokens.extend(token_of(token, true).map(|token| (name.clone(), token)));
            }
            _ => {}
        }
    }
    tokens
}

/// Whether the key holds a list of tokens.
fn is_token_list(name: &str) -> bool {
    ["additional_special_tokens", "extra_special_tokens"].contains(&name)
}

/// A token as a text, or as an object with its `content`.
fn token_of(value: &Value, special: bool) -> Option<AddedToken> {
    let content = value.as_str().or_else(|| value["content"].as_str())?;
    let is = |key: &str| value[key] == true;
    Some(AddedToken {
        special: special || is("special"),
        single_word: is("single_word"),
        lstrip: is("lstrip"),
        rstrip: is("rstrip"),
        normalized: is("normalized"),
        ..AddedToken::special(content, 0)
    })
}

/// The last token of each key: standard keys first, then other keys, then tokens without a key.
fn in_order(names: Vec<(String, AddedToken)>) -> Vec<AddedToken> {
    let place = |name: &str| match STANDARD_TOKEN_KEYS.iter().position(|known| *known == name) {
        Some(place) => place,
        None if name.is_empty() => STANDARD_TOKEN_KEYS.len() + 1,
        None => STANDARD_TOKEN_KEYS.len(),
    };
    let mut last: Vec<(String, AddedToken)> = Vec::new();
    for (name, token) in names {
        match last.iter_mut().find(|(other, _)| !name.is_empty() && *other == name) {
            Some(entry) => entry.1 = token,
            None => last.push((name, token)),
        }
    }
    last.sort_by_key(|(name, _)| place(name));
    last.into_iter().map(|(_, token)| token).collect()
}

/// Number of rows of the embedding of the folder's model, where config.json states it.
fn rows_of_model(folder: &Path) -> Option<u32> {
    let config = object(&folder.join(MODEL_CONFIG)).ok()?;
    config.get("vocab_size")?.as_u64()?.try_into().ok()
}

/// Tokens to be added to a `tokenizer.json`.
struct PendingTokens {
    /// The ids of the vocabulary and of added tokens, by text.
    ids: HashMap<String, u32>,
    /// Added tokens by text, those of the file and new ones.
    added: HashMap<String, AddedToken>,
    /// One more than the highest id.
    next: u32,
    /// Number of rows of the model's embedding; ids from here on have none.
    rows: Option<u32>,
    tokens: Vec<AddedToken>,
}

impl PendingTokens {
    fn after(json: &Value, rows: Option<u32>) -> Self {
        let mut ids = HashMap::new();
        match &json["model"]["vocab"] {
            Value::Object(vocab) => {
                ids.extend(
                    vocab
                        .iter()
                        .filter_map(|(token, value)| Some((token.clone(), ids::id(value)?))),
                );
            }
            Value::Array(vocab) => {
                let tokens = (0u32..).zip(vocab);
                ids.extend(tokens.filter_map(|(id, entry)| Some((entry[0].as_str()?.to_owned(), id))));
            }
            _ => {}
        }
        let added = json["added_tokens"].as_array().into_iter().flatten();
        let added: HashMap<String, AddedToken> = added
            .filter_map(AddedToken::from_json)
            .map(|token| (token.content.clone(), token))
            .collect();
        ids.extend(added.values().map(|token| (token.content.clone(), token.id)));
        Self {
            next: ids.values().max().map_or(0, |&id| id.saturating_add(1)),
            ids,
            added,
            rows,
            tokens: Vec::new(),
        }
    }

    /// Whether a token is in the vocabulary, or the model has a row for one more.
    fn has_id_for(&self, content: &str) -> bool {
        self.ids.contains_key(content) || self.rows.is_none_or(|rows| self.next < rows)
    }

    /// Adds a token with its id in the vocabulary, else the stated id if it is free, else the next id.
    fn add(&mut self, token: AddedToken, stated: Option<u32>) {
        if token.content.is_empty() || self.added.contains_key(&token.content) {
            return;
        }
        let id = match self.ids.get(&token.content) {
            Some(&id) => id,
            None => stated
                .filter(|stated| self.ids.values().all(|id| id != stated))
                .unwrap_or(self.next),
        };
        self.next = self.next.max(id.saturating_add(1));
        self.ids.insert(token.content.clone(), id);
        let token = AddedToken { id, ..token };
        self.added.insert(token.content.clone(), token.clone());
        self.tokens.push(token);
    }

    /// Adds them to the `tokenizer.json` of `folder`. Tokens for which the model has no row, its own included, are left out:
    /// `transformers` leaves it to the user not to use them.
    fn put_into(self, json: &mut Value, folder: &Path) {
        let vocab = json["model"]["vocab"].as_object().map(serde_json::Map::len);
        let vocab = vocab.or(json["model"]["vocab"].as_array().map(Vec::len)).unwrap_or(0);
        let mut tokens = std::mem::take(&mut json["added_tokens"])
            .as_array()
            .cloned()
            .unwrap_or_default();
        tokens.extend(self.tokens.iter().map(AddedToken::to_json));
        let rows = self.rows.filter(|&rows| rows as usize >= vocab);
        if let Some(rows) = rows {
            let has_row = |token: &Value| token["id"].as_u64().is_none_or(|id| id < rows.into());
            let without: Vec<String> = tokens
                .iter()
                .filter(|token| !has_row(token))
                .filter_map(|token| Some(format!("{} ({})", token["content"].as_str()?, token["id"])))
                .collect();
            if !without.is_empty() {
                log::info!(
                    "tokenizer {}: the model has only {rows} embeddings, none for {}, which is encoded as ordinary text",
                    folder.display(),
                    without.join(", ")
                );
            }
            tokens.retain(has_row);
        }
        json["added_tokens"] = tokens.into();
    }
}

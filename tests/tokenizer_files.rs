//! Tokenizers in files that others write, against the ids that those others give: `scripts/tokenizer_files_fixtures.py`
//! made both.

mod common;

use std::fs;
use std::path::Path;

use common::from_base64;
use mlx_gpt::tokenizer::{AddedToken, PreTokenizer, SpecialChoice, Tokenizer};
use serde_json::{Map, Value};

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/tokenizer-files.json")).unwrap()
}

fn ids(json: &Value) -> Vec<u32> {
    serde_json::from_value(json.clone()).unwrap()
}

fn text(json: &Value) -> &str {
    json.as_str().unwrap()
}

fn list(json: &Value) -> &[Value] {
    json.as_array().unwrap()
}

/// A JSON merge patch, RFC 7396.
fn patched(base: &Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else {
        return patch.clone();
    };
    let mut result = base.as_object().cloned().unwrap_or_default();
    for (key, change) in changes {
        if change.is_null() {
            result.shift_remove(key);
        } else {
            let old = result.get(key).cloned().unwrap_or_default();
            result.insert(key.clone(), patched(&old, change));
        }
    }
    result.into()
}

/// What was read can be written, and is the same when it is read again, here and by Hugging Face's library.
fn check_saved(name: &str, tokenizer: &Tokenizer, texts: &[(&str, Vec<u32>)]) {
    let folder = tempfile::tempdir().unwrap();
    let json = tokenizer.to_json().unwrap().to_string();
    fs::write(folder.path().join("tokenizer.json"), &json).unwrap();
    let again = Tokenizer::load(folder.path()).unwrap();
    assert_eq!(tokenizer.difference(&again).unwrap(), None, "{name}");
    let library: tokenizers::Tokenizer = json.parse().unwrap();
    for (text, ids) in texts {
        assert_eq!(
            &again.encode_with(text, &SpecialChoice::ALLOW).unwrap(),
            ids,
            "{name}: {text:?}"
        );
        assert_eq!(library.encode(*text, false).unwrap().get_ids(), ids, "{name}: {text:?}");
    }
}

#[test]
fn tokenizer_json_has_the_ids_of_tokenizers() {
    let fixture = fixture();
    let file = Path::new("x");
    for case in list(&fixture["json"]) {
        let (name, base) = (text(&case["name"]), text(&case["base"]));
        let json = patched(&fixture["bases"][base], &case["patch"]);
        let runs_here = base == "byte level" && json["normalizer"].is_null();
        let tokenizer = Tokenizer::from_json(json, file).unwrap();
        assert_eq!(matches!(tokenizer, Tokenizer::Bpe(_)), runs_here, "{name}");
        for case in list(&case["texts"]) {
            let text = text(&case["text"]);
            assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["plain"]), "{name}: {text:?}");
            assert_eq!(
                tokenizer.encode_with(text, &SpecialChoice::ALLOW).unwrap(),
                ids(&case["special"]),
                "{name}: {text:?}"
            );
            // All of them by their names are all of them.
            let specials: Vec<&str> = tokenizer.special_tokens().keys().map(String::as_str).collect();
            let named = tokenizer.encode_with(text, &SpecialChoice::only(&specials)).unwrap();
            assert_eq!(named, ids(&case["special"]), "{name}: {text:?}");
        }
        let texts = list(&case["texts"]).iter();
        let texts: Vec<_> = texts.map(|case| (text(&case["text"]), ids(&case["special"]))).collect();
        check_saved(name, &tokenizer, &texts);
    }
}

#[test]
fn folders_have_the_ids_of_transformers() {
    let fixture = fixture();
    for case in list(&fixture["folders"]) {
        let name = text(&case["name"]);
        let folder = tempfile::tempdir().unwrap();
        write_files(folder.path(), &fixture, case["files"].as_object().unwrap());
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        assert!(matches!(tokenizer, Tokenizer::Bpe(_)), "{name}");
        let texts = list(&case["texts"]).iter();
        let texts: Vec<_> = texts.map(|case| (text(&case["text"]), ids(&case["ids"]))).collect();
        for (text, ids) in &texts {
            assert_eq!(
                &tokenizer.encode_with(text, &SpecialChoice::ALLOW).unwrap(),
                ids,
                "{name}: {text:?}"
            );
        }
        check_saved(name, &tokenizer, &texts);
    }
}

fn write_files(folder: &Path, fixture: &Value, files: &Map<String, Value>) {
    for (file, contents) in files {
        let contents = contents.as_str().map_or(contents, |name| &fixture["shared"][name]);
        let contents = contents.as_str().map_or_else(|| contents.to_string(), str::to_owned);
        fs::write(folder.join(file), contents).unwrap();
    }
}

/// `transformers` reads tokens that the model has no row for, and leaves it to its user not to write them.
#[test]
fn tokens_beyond_the_model_of_a_folder_are_text() {
    let fixture = fixture();
    let cases = list(&fixture["folders"]).iter();
    for case in cases.filter(|case| text(&case["name"]).starts_with("added tokens")) {
        let folder = tempfile::tempdir().unwrap();
        write_files(folder.path(), &fixture, case["files"].as_object().unwrap());
        for (rows, tokens) in [(321, 321), (322, 322), (400, 323), (10, 323)] {
            fs::write(folder.path().join("config.json"), format!("{{\"vocab_size\": {rows}}}")).unwrap();
            let tokenizer = Tokenizer::load(folder.path()).unwrap();
            assert_eq!(tokenizer.vocab_size().min(323), tokens, "{rows}");
        }
    }
}

#[test]
fn sentencepiece_models_have_the_ids_of_sentencepiece() {
    let fixture = fixture();
    for case in list(&fixture["sentencepiece"]) {
        let name = text(&case["name"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.model");
        fs::write(&file, from_base64(text(&case["model"]))).unwrap();
        let tokenizer = Tokenizer::load(&file).unwrap();
        for case in list(&case["texts"]) {
            let text = text(&case["text"]);
            assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["ids"]), "{name}: {text:?}");
        }
        let in_folder = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(tokenizer.difference(&in_folder).unwrap(), None, "{name}");
        check_saved(name, &tokenizer, &[]);
    }
}

#[test]
fn tiktoken_files_have_the_ids_of_tiktoken() {
    for case in list(&fixture()["tiktoken"]) {
        let name = text(&case["name"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ranks.tiktoken");
        fs::write(&file, from_base64(text(&case["file"]))).unwrap();
        let tokenizer = match &case["pattern"] {
            Value::String(pattern) => {
                let specials = case["specials"].as_object().unwrap().iter();
                let specials = specials.map(|(token, id)| AddedToken::special(token, id.as_u64().unwrap() as u32));
                let pre_tokenizer: PreTokenizer = pattern.parse().unwrap();
                Tokenizer::load_tiktoken(&file, pre_tokenizer, specials.collect()).unwrap()
            }
            _ => Tokenizer::load(&file).unwrap(),
        };
        let texts = list(&case["texts"]).iter();
        let texts: Vec<_> = texts.map(|case| (text(&case["text"]), ids(&case["ids"]))).collect();
        for (text, ids) in &texts {
            assert_eq!(
                &tokenizer.encode_with(text, &SpecialChoice::ALLOW).unwrap(),
                ids,
                "{name}: {text:?}"
            );
        }
        check_saved(name, &tokenizer, &texts);
    }
}

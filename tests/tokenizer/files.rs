//! Tokenizers in files that others write, against the ids that those others give: `scripts/tokenizer_files_fixtures.py`
//! made both.

use std::fs;
use std::path::Path;

use crate::common::from_base64;
use mlx_gpt::tokenizer::{AddedToken, PreTokenizer, SpecialTokenPolicy, Tokenizer};
use serde_json::{Map, Value};

fn fixture() -> Value {
    serde_json::from_str(include_str!("../fixtures/tokenizer-files.json")).unwrap()
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

/// A tokenizer gives these ids; written, it gives them when it is read again, here and by Hugging Face's library.
fn check(name: &str, tokenizer: &Tokenizer, texts: &[(&str, Vec<u32>)]) {
    let folder = tempfile::tempdir().unwrap();
    let json = tokenizer.to_json().to_string();
    fs::write(folder.path().join("tokenizer.json"), &json).unwrap();
    let again = Tokenizer::load(folder.path()).unwrap();
    assert_eq!(tokenizer.difference(&again).unwrap(), None, "{name}");
    let library: tokenizers::Tokenizer = json.parse().unwrap();
    for (text, ids) in texts {
        for tokenizer in [tokenizer, &again] {
            let encoded = tokenizer.encode_with(text, &SpecialTokenPolicy::ALLOW).unwrap();
            assert_eq!(&encoded, ids, "{name}: {text:?}");
        }
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
                tokenizer.encode_with(text, &SpecialTokenPolicy::ALLOW).unwrap(),
                ids(&case["special"]),
                "{name}: {text:?}"
            );
            // All of them by their names are all of them.
            let specials: Vec<&str> = tokenizer.special_tokens().keys().map(String::as_str).collect();
            let named = tokenizer
                .encode_with(text, &SpecialTokenPolicy::only(&specials))
                .unwrap();
            assert_eq!(named, ids(&case["special"]), "{name}: {text:?}");
        }
        let texts = list(&case["texts"]).iter();
        let texts: Vec<_> = texts.map(|case| (text(&case["text"]), ids(&case["special"]))).collect();
        check(name, &tokenizer, &texts);
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
        check(name, &tokenizer, &texts);
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
        check(name, &tokenizer, &[]);
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
        check(name, &tokenizer, &texts);
    }
}

#[test]
fn dropout_is_off_and_that_is_said() {
    let fixture = fixture();
    let folder = crate::common::folder();
    for base in ["byte level", "metaspace first"] {
        let plain = Tokenizer::from_json(fixture["bases"][base].clone(), Path::new("x")).unwrap();
        let patch = serde_json::json!({ "model": { "dropout": 0.5 } });
        let file = folder.path().join("dropout.json");
        fs::write(&file, patched(&fixture["bases"][base], &patch).to_string()).unwrap();
        let with_dropout = Tokenizer::load(&file).unwrap();
        assert_eq!(with_dropout.difference(&plain).unwrap(), None, "{base}");
        let text = "Before we proceed any further, hear me speak.";
        for _ in 0..20 {
            assert_eq!(
                with_dropout.encode(text).unwrap(),
                plain.encode(text).unwrap(),
                "{base}"
            );
        }
        let mut command = crate::common::mlx_gpt(folder.path());
        command.args(["tokenizer", "encode", "--tokenizer", "dropout.json", text]);
        let said = crate::common::stderr(&crate::common::succeed(&mut command));
        assert!(said.contains("dropout.json: BPE dropout 0.5"), "{said}");
    }
}

/// The library would number the tokens one after the other; a model's rows go by the ids in the file.
#[test]
fn added_tokens_keep_their_ids_behind_a_gap() {
    let fixture = fixture();
    let token = |id: u32, content: &str| AddedToken::special(content, id).to_json();
    for base in ["byte level", "metaspace never"] {
        let added = serde_json::json!([token(700, "<a>"), token(702, "<b>")]);
        let added = match base {
            "byte level" => added,
            _ => {
                let own = list(&fixture["bases"][base]["added_tokens"]);
                [own, list(&added)].concat().into()
            }
        };
        let json = patched(&fixture["bases"][base], &serde_json::json!({ "added_tokens": added }));
        let tokenizer = Tokenizer::from_json(json, Path::new("x")).unwrap();
        assert_eq!(tokenizer.vocab_size(), 703, "{base}");
        let ids = tokenizer.encode_with("a<b>the<a>", &SpecialTokenPolicy::ALLOW).unwrap();
        assert!(ids.contains(&702) && ids.ends_with(&[700]), "{base}: {ids:?}");
        assert_eq!(
            tokenizer.decode(&[702, 700]).unwrap().replace(' ', ""),
            "<b><a>",
            "{base}"
        );
        assert!(tokenizer.decode(&[701]).is_err(), "{base}");
        assert!(!tokenizer.encode("a<b>the<a>").unwrap().contains(&702), "{base}");
        check(base, &tokenizer, &[("a<b>the<a>", ids)]);
    }
    // Unigram numbers its pieces in their order, so that those of a gap have a name.
    let unigram = mlx_gpt::tokenizer::train_unigram("the cat sat on the mat", 400, &[]).unwrap();
    let mut json = Tokenizer::from(unigram).to_json();
    json["added_tokens"] = serde_json::json!([token(700, "<a>"), token(702, "<b>")]);
    let tokenizer = Tokenizer::from_json(json, Path::new("x")).unwrap();
    let ids = tokenizer.encode_with("a<b>", &SpecialTokenPolicy::ALLOW).unwrap();
    assert_eq!((ids.last(), tokenizer.vocab_size()), (Some(&702), 703));
    assert_eq!(tokenizer.special_tokens().len(), 2);
    assert!(tokenizer.decode(&[699]).is_err() && tokenizer.decode(&[701]).is_err());
    check("unigram", &tokenizer, &[("a<b>", ids)]);
}

#[test]
fn a_folder_of_several_files_is_imported_as_it_is_read() {
    let fixture = fixture();
    let case = list(&fixture["folders"])
        .iter()
        .find(|case| text(&case["name"]) == "added tokens")
        .unwrap();
    let folder = crate::common::folder();
    let files = case["files"].as_object().unwrap();
    fs::create_dir(folder.path().join("tokenizer")).unwrap();
    write_files(&folder.path().join("tokenizer"), &fixture, files);
    let tokenizer = Tokenizer::load(&folder.path().join("tokenizer")).unwrap();
    crate::common::saved(crate::common::random_checkpoint(folder.path(), tokenizer, 32, 2));
    let model = folder.path().join("model");
    for file in ["tokenizer.json", "tokenizer_config.json", "state.json"] {
        fs::remove_file(model.join(file)).unwrap();
    }
    write_files(&model, &fixture, files);
    let run = |arguments: &[&str]| {
        let output = crate::common::succeed(crate::common::mlx_gpt(folder.path()).args(arguments));
        crate::common::stdout(&output)
    };
    run(&["import", "model", "--out", "imported"]);
    for name in ["tokenizer", "model", "imported"] {
        let ids = run(&[
            "tokenizer",
            "encode",
            "--tokenizer",
            name,
            "--special",
            "allow",
            "<bot>hi<pad>",
        ]);
        let expected = list(&case["texts"])
            .iter()
            .find(|case| text(&case["text"]) == "<bot>hi<pad>")
            .unwrap();
        let expected: Vec<String> = ids_of(expected).iter().map(u32::to_string).collect();
        assert_eq!(ids.trim(), expected.join(" "), "{name}");
    }
}

fn ids_of(case: &Value) -> Vec<u32> {
    ids(&case["ids"])
}

#[test]
fn gguf_refuses_what_it_cannot_say() {
    let fixture = fixture();
    let cases = list(&fixture["json"]).iter();
    let json = |name: &str| {
        let case = cases.clone().find(|case| text(&case["name"]) == name).unwrap();
        patched(&fixture["bases"][text(&case["base"])], &case["patch"])
    };
    for (name, expected) in [
        ("a pattern of one's own", "no name for the split pattern"),
        ("a space before a text", "strips white space around it"),
        ("lstrip", "<mask> strips white space around it"),
    ] {
        let folder = crate::common::folder();
        let tokenizer = Tokenizer::from_json(json(name), Path::new("x")).unwrap();
        crate::common::saved(crate::common::random_checkpoint(folder.path(), tokenizer, 32, 2));
        let mut command = crate::common::mlx_gpt(folder.path());
        command.args([
            "export",
            "--checkpoint",
            "model",
            "--format",
            "gguf",
            "--out",
            "model.gguf",
        ]);
        let said = crate::common::fail(&mut command);
        assert!(said.contains(expected), "{name}: {said}");
    }
}

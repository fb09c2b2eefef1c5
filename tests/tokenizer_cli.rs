//! The tokenizer commands as their user runs them.

mod common;

use std::path::Path;

use common::{fail, folder, mlx_gpt, stderr, stdout, succeed};
use serde_json::{Value, json};

/// What `tokenizer` with these arguments prints.
fn tokenizer(folder: &Path, arguments: &[&str]) -> String {
    stdout(&succeed(mlx_gpt(folder).arg("tokenizer").args(arguments)))
}

fn tokenizer_fails(folder: &Path, arguments: &[&str]) -> String {
    fail(mlx_gpt(folder).arg("tokenizer").args(arguments))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn text_becomes_ids_and_text_again() {
    let folder = folder();
    let run = |arguments: &[&str]| tokenizer(folder.path(), arguments);
    assert_eq!(run(&["encode", "--tokenizer", "gpt2", "hello world"]), "31373 995\n");
    let ids = run(&["encode", "--tokenizer", "gpt2", "hello world", "--json"]);
    assert_eq!(parsed(&ids), json!({ "ids": [31373, 995] }));
    assert_eq!(run(&["decode", "--tokenizer", "gpt2", "31373", "995"]), "hello world\n");
    assert_eq!(run(&["decode", "--tokenizer", "gpt2", "30325"]), " \u{fffd}\n");

    // Files are taken byte for byte, and what one command writes the other reads.
    let text = "one\r\ntwo\n\n  naïve 😀\n";
    std::fs::write(folder.path().join("text"), text).unwrap();
    for name in ["gpt2", "cl100k"] {
        let ids = run(&["encode", "--tokenizer", name, "--file", "text", "--json"]);
        std::fs::write(folder.path().join("ids"), ids).unwrap();
        let decoded = run(&["decode", "--tokenizer", name, "--file", "ids", "--json"]);
        assert_eq!(parsed(&decoded), json!({ "text": text }));
    }
    assert_eq!(run(&["encode", "--tokenizer", "char", "ab"]), "39 40\n");
}

#[test]
fn special_tokens_are_as_asked() {
    let folder = folder();
    let with = |special| ["encode", "--tokenizer", "gpt2", "<|endoftext|>", "--special", special];
    assert_eq!(tokenizer(folder.path(), &with("allow")), "50256\n");
    assert_eq!(tokenizer(folder.path(), &with("text")), "27 91 437 1659 5239 91 29\n");
    assert!(tokenizer_fails(folder.path(), &with("raise")).contains("<|endoftext|>"));
}

#[test]
fn a_tokenizer_is_trained_and_used() {
    let folder = folder();
    std::fs::write(
        folder.path().join("corpus.txt"),
        "the cat sat on the mat; the cat ate\n".repeat(20),
    )
    .unwrap();
    let run = |arguments: &[&str]| tokenizer(folder.path(), arguments);
    let train = ["train", "--corpus", "corpus.txt", "--special", "<|endoftext|>"];
    for (kind, size) in [("bpe", "270"), ("unigram", "380"), ("sentencepiece", "280")] {
        let said = run(&[&train[..], &["--kind", kind, "--vocab-size", size, "--out", kind]].concat());
        assert!(said.starts_with(&format!("{kind}/tokenizer.json: ")), "{said}");
        let ids = run(&[
            "encode",
            "--tokenizer",
            kind,
            "the cat<|endoftext|>",
            "--special",
            "allow",
            "--json",
        ]);
        let ids: Vec<String> = parsed(&ids)["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(Value::to_string)
            .collect();
        let ids = ids.join(",");
        assert_eq!(
            run(&["decode", "--tokenizer", &format!("{kind}/tokenizer.json"), &ids]),
            "the cat<|endoftext|>\n"
        );
        let config = std::fs::read_to_string(folder.path().join(kind).join("tokenizer_config.json")).unwrap();
        assert_eq!(parsed(&config)["eos_token"], "<|endoftext|>");
    }
    run(&[
        "train",
        "--corpus",
        "corpus.txt",
        "--kind",
        "char",
        "--out",
        "characters.json",
    ]);
    assert_eq!(run(&["encode", "--tokenizer", "characters.json", "\n ;a"]), "0 1 2 3\n");

    let fails = |arguments: &[&str]| {
        let train = ["train", "--corpus", "corpus.txt", "--out", "x"];
        tokenizer_fails(folder.path(), &[&train[..], arguments].concat())
    };
    assert!(fails(&["--vocab-size", "255"]).contains("too small"));
    assert!(fails(&["--vocab-size", "9999"]).contains("fewer than the 9999"));
    assert!(fails(&["--kind", "char", "--vocab-size", "9"]).contains("--vocab-size"));
    assert!(!folder.path().join("x").exists());
}

#[test]
fn tokens_are_shown_and_compared() {
    let folder = folder();
    let run = |arguments: &[&str]| tokenizer(folder.path(), arguments);
    let shown = run(&["show", "Hello <wörld> 😀"]);
    assert!(
        shown.starts_with("Hello| <|w|ör|ld|>| \\xF0\\x9F\\x98|\\x80\n"),
        "{shown}"
    );
    assert!(shown.contains("part of U+1F600"), "{shown}");
    assert!(!shown.contains('\x1b'), "no colours where no terminal is");

    assert_eq!(
        run(&["show", "Hello <wörld>", "--html", "page/tokens.html"]),
        "page/tokens.html\n"
    );
    let page = std::fs::read_to_string(folder.path().join("page/tokens.html")).unwrap();
    assert!(
        page.contains(" &lt;</span>") && !page.contains("http") && !page.contains("src="),
        "{page}"
    );

    let compared = parsed(&run(&["compare", "Hello there", "--json"]));
    let tokens: Vec<_> = compared["tokenizers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["tokens"].clone())
        .collect();
    assert_eq!(tokens, [json!(11), json!(2), json!(2)]);
    let table = run(&["compare", "Hëllo"]);
    assert!(
        table.contains("not among the tokenizer's 65 characters") && table.contains("50257"),
        "{table}"
    );
}

#[test]
fn bad_input_is_one_line_that_says_what_to_do() {
    let folder = folder();
    let fails = |arguments: &[&str]| tokenizer_fails(folder.path(), arguments);
    std::fs::write(folder.path().join("not.json"), "[1, 2").unwrap();
    std::fs::write(folder.path().join("other.json"), "{\"a\": 1}").unwrap();
    std::fs::write(folder.path().join("binary"), b"ab\xff").unwrap();
    assert!(fails(&["encode", "--tokenizer", "nope", "x"]).contains("nope"));
    assert!(fails(&["encode", "--tokenizer", "not.json", "x"]).contains("not.json is not valid JSON"));
    assert!(fails(&["encode", "--tokenizer", "other.json", "x"]).contains("not a tokenizer.json"));
    assert!(fails(&["encode", "--tokenizer", "gpt2", "--file", "binary"]).contains("from byte 2 on"));
    assert!(fails(&["encode", "--tokenizer", "char", "☃"]).contains("U+2603"));
    assert!(fails(&["decode", "--tokenizer", "gpt2", "50257"]).contains("50257 is out of range"));
    assert!(fails(&["decode", "--tokenizer", "gpt2", "--file", "other.json"]).contains("other.json"));

    let usage = mlx_gpt(folder.path())
        .args(["tokenizer", "encode", "--tokenizer", "gpt2"])
        .output()
        .unwrap();
    assert_eq!(usage.status.code(), Some(2), "{}", stderr(&usage));
}

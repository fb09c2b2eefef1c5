//! The tokenizer commands as their user runs them.

use std::path::Path;

use crate::common::{fail, folder, from_base64, mlx_gpt, stderr, stdout, succeed};
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
    for name in ["cl100k", "cl100k_base"] {
        assert_eq!(run(&["encode", "--tokenizer", name, "hello world"]), "15339 1917\n"); // tiktoken's
    }
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
    assert!(fails(&["--kind", "char", "--vocab-size", "9"]).contains("--vocab-size"));
    assert!(!folder.path().join("x").exists());

    // A model's folder has such a file of its own, with what only its program knows.
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    let config = model.join("tokenizer_config.json");
    std::fs::write(&config, r#"{"add_prefix_space": true}"#).unwrap();
    for arguments in [
        ["train", "--corpus", "corpus.txt", "--kind", "char", "--out", "model"],
        ["convert", "--tokenizer", "bpe", "--out", "model", "--pattern", "gpt2"],
    ] {
        let arguments = if arguments[0] == "convert" {
            &arguments[..5]
        } else {
            &arguments
        };
        let said = tokenizer_fails(folder.path(), arguments);
        assert!(said.contains("tokenizer_config.json exists already"), "{said}");
        assert_eq!(
            std::fs::read_to_string(&config).unwrap(),
            r#"{"add_prefix_space": true}"#
        );
    }
    // One that this program left when it was ended is replaced.
    std::fs::copy(folder.path().join("bpe/tokenizer_config.json"), &config).unwrap();
    run(&["train", "--corpus", "corpus.txt", "--kind", "char", "--out", "model"]);
    assert!(
        parsed(&std::fs::read_to_string(&config).unwrap())
            .get("eos_token")
            .is_none()
    );
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

/// What a text yields, in bytes: a function of the text and the options.
fn trained(folder: &Path, threads: &str, arguments: &[&str]) -> Vec<u8> {
    let out = folder.join("out.json");
    let mut command = mlx_gpt(folder);
    command.args(["tokenizer", "train", "--corpus", "corpus.txt", "--out", "out.json"]);
    succeed(command.args(arguments).env("RAYON_NUM_THREADS", threads));
    let bytes = std::fs::read(&out).unwrap();
    std::fs::remove_file(out).unwrap();
    bytes
}

#[test]
fn a_trained_tokenizer_is_a_function_of_its_text() {
    let folder = folder();
    let text = include_str!("../../assets/shakespeare.txt");
    // Rare characters and pieces that are equally frequent are what the order of a table could tell by.
    let rare: String = ('\u{4e00}'..'\u{4e80}').flat_map(|c| [c, ' ']).collect();
    std::fs::write(folder.path().join("corpus.txt"), format!("{}{rare}", &text[..40_000])).unwrap();
    for (kind, size) in [
        ("bpe", "600"),
        ("unigram", "900"),
        ("sentencepiece", "500"),
        ("char", ""),
    ] {
        let mut arguments = vec!["--kind", kind];
        if !size.is_empty() {
            arguments.extend(["--vocab-size", size, "--special", "<|endoftext|>"]);
        }
        let first = trained(folder.path(), "1", &arguments);
        for threads in ["1", "2", "8", "8"] {
            assert!(
                trained(folder.path(), threads, &arguments) == first,
                "{kind}, {threads} threads"
            );
        }
    }
}

#[test]
fn a_vocabulary_that_the_text_cannot_fill_is_smaller_and_that_is_said() {
    let folder = folder();
    std::fs::write(folder.path().join("corpus.txt"), "the cat sat\n".repeat(9)).unwrap();
    for kind in ["bpe", "unigram", "sentencepiece"] {
        let mut command = mlx_gpt(folder.path());
        command.args([
            "tokenizer",
            "train",
            "--corpus",
            "corpus.txt",
            "--vocab-size",
            "9999",
            "--kind",
            kind,
        ]);
        let output = succeed(command.args(["--out", kind]));
        let said = stderr(&output);
        let tokens: usize = said
            .split("it has enough text for only ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(said.contains(" of the 9999 tokens asked for"), "{said}");
        assert!(
            stdout(&output).contains(&format!("{kind}/tokenizer.json: {tokens} tokens")),
            "{said}"
        );
    }
}

#[test]
fn texts_that_unigram_stumbled_over_are_learned_from_or_refused_in_words() {
    let folder = folder();
    let train = |text: &str, size: &str| {
        std::fs::write(folder.path().join("corpus.txt"), text).unwrap();
        let mut command = mlx_gpt(folder.path());
        command.args(["tokenizer", "train", "--corpus", "corpus.txt", "--kind", "unigram"]);
        command.args(["--vocab-size", size, "--out", "out.json"]);
        command
    };
    for text in ["\0\0\0\0", "\0the cat\0 sat\0 the cat", "\n\n\n", "a"] {
        succeed(&mut train(text, "400"));
        let ids = tokenizer(
            folder.path(),
            &["encode", "--tokenizer", "out.json", "--file", "corpus.txt"],
        );
        let ids: Vec<&str> = ids.split_whitespace().collect();
        let decoded = tokenizer(folder.path(), &["decode", "--tokenizer", "out.json", &ids.join(",")]);
        assert_eq!(decoded, format!("{text}\n"));
        std::fs::remove_file(folder.path().join("out.json")).unwrap();
    }
    let text: String = ('\u{4e00}'..).take(3000).collect();
    let said = fail(&mut train(&text, "2000"));
    assert!(
        said.contains("3000 different characters") && said.contains("must be at least 3352"),
        "{said}"
    );
    succeed(&mut train(&text, "3352"));
}

#[test]
fn long_tokens_are_learned_and_read() {
    let folder = folder();
    let line = "-".repeat(8192) + "\n";
    std::fs::write(folder.path().join("corpus.txt"), line.repeat(40)).unwrap();
    for kind in ["bpe", "sentencepiece", "unigram"] {
        let train = [
            "train",
            "--corpus",
            "corpus.txt",
            "--vocab-size",
            "400",
            "--kind",
            kind,
            "--out",
            kind,
        ];
        tokenizer(folder.path(), &train);
        let ids = tokenizer(folder.path(), &["encode", "--tokenizer", kind, &line]);
        let ids = ids.trim().replace(' ', ",");
        assert_eq!(
            tokenizer(folder.path(), &["decode", "--tokenizer", kind, &ids]),
            format!("{line}\n")
        );
        if kind != "unigram" {
            assert!(ids.split(',').count() < 5, "{kind}: {ids}");
        }
    }
}

#[test]
fn text_is_cut_at_special_tokens_and_by_a_pattern_of_ones_own() {
    let folder = folder();
    let play = &include_str!("../../assets/shakespeare.txt")[..20_000];
    let text = play.replace("\n\n", "<|endoftext|>");
    std::fs::write(folder.path().join("corpus.txt"), &text).unwrap();
    let marker = ["--special", "<|endoftext|>"];
    for (kind, size) in [("bpe", "400"), ("unigram", "500"), ("sentencepiece", "400")] {
        let arguments = [&["--kind", kind, "--vocab-size", size], &marker[..]].concat();
        let json = parsed(&String::from_utf8(trained(folder.path(), "2", &arguments)).unwrap());
        let tokens: Vec<&str> = match &json["model"]["vocab"] {
            Value::Array(scored) => scored.iter().map(|entry| entry[0].as_str().unwrap()).collect(),
            vocab => vocab.as_object().unwrap().keys().map(String::as_str).collect(),
        };
        // The plays have none of these characters.
        let of_marker = |token: &&&str| token.len() > 1 && token.contains(['<', '|', '>']);
        let known = |token: &&&str| token.starts_with("<0x") || ["<unk>", "<|endoftext|>"].contains(*token);
        let learned: Vec<_> = tokens.iter().filter(of_marker).filter(|token| !known(token)).collect();
        assert!(learned.is_empty(), "{kind}: {learned:?}");
        assert!(
            !tokens.contains(&"endof") && tokens.iter().any(|token| token.ends_with("the")),
            "{kind}"
        );
    }

    // Without spaces in chunks, words are the same wherever they stand.
    let pattern = ["--pattern", r"\p{L}+|[^\p{L}]", "--vocab-size", "265"];
    let bytes = trained(folder.path(), "2", &[&pattern[..], &marker].concat());
    std::fs::write(folder.path().join("own.json"), &bytes).unwrap();
    let ids = |text| tokenizer(folder.path(), &["encode", "--tokenizer", "own.json", text]);
    assert!(
        ids("fish fish").ends_with(&format!(" 32 {}", ids("fish"))),
        "{}",
        ids("fish fish")
    );
    let theirs: tokenizers::Tokenizer = String::from_utf8(bytes).unwrap().parse().unwrap();
    let encoded = theirs.encode("the other, or 12<|endoftext|>", false).unwrap();
    let theirs: Vec<String> = encoded.get_ids().iter().map(u32::to_string).collect();
    let ours = tokenizer(
        folder.path(),
        &[
            "encode",
            "--tokenizer",
            "own.json",
            "--special",
            "allow",
            "the other, or 12<|endoftext|>",
        ],
    );
    assert_eq!(ours.trim(), theirs.join(" "));
    let output = mlx_gpt(folder.path())
        .args(["tokenizer", "train", "--pattern", "(", "--out", "x"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("neither gpt2 nor gpt4 nor a regular expression"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn tokenizers_of_others_are_converted() {
    let folder = folder();
    let run = |arguments: &[&str]| tokenizer(folder.path(), arguments);
    let fixture = parsed(include_str!("../fixtures/tokenizer-files.json"));
    let case = &fixture["tiktoken"][1];
    std::fs::write(
        folder.path().join("ranks.tiktoken"),
        from_base64(case["file"].as_str().unwrap()),
    )
    .unwrap();
    let specials: Vec<String> = case["specials"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(token, id)| format!("--special={token}={id}"))
        .collect();
    let mut arguments = vec!["convert", "--tokenizer", "ranks.tiktoken", "--out", "own"];
    arguments.extend(["--pattern", case["pattern"].as_str().unwrap()]);
    arguments.extend(specials.iter().map(String::as_str));
    assert_eq!(run(&arguments), "own/tokenizer.json: 331 tokens\n");
    for case in case["texts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| case["text"] != "")
    {
        let text = case["text"].as_str().unwrap();
        let ids = run(&["encode", "--tokenizer", "own", "--special", "allow", "--json", text]);
        assert_eq!(parsed(&ids)["ids"], case["ids"], "{text:?}");
    }
    run(&[
        "convert",
        "--tokenizer",
        "ranks.tiktoken",
        "--special",
        "<a>",
        "--special",
        "<b>",
        "--out",
        "next.json",
    ]);
    assert_eq!(
        run(&["encode", "--tokenizer", "next.json", "--special", "allow", "<b><a>"]),
        "321 320\n"
    );

    let case = &fixture["sentencepiece"][1];
    std::fs::write(
        folder.path().join("x.model"),
        from_base64(case["model"].as_str().unwrap()),
    )
    .unwrap();
    run(&["convert", "--tokenizer", "x.model", "--out", "x"]);
    let text = "Before we proceed";
    assert_eq!(
        run(&["encode", "--tokenizer", "x", text]),
        run(&["encode", "--tokenizer", "x.model", text])
    );
    let said = tokenizer_fails(
        folder.path(),
        &["convert", "--tokenizer", "x.model", "--pattern", "gpt2", "--out", "y"],
    );
    assert!(
        said.contains("--pattern and --special are for a .tiktoken file"),
        "{said}"
    );
    assert!(!folder.path().join("y").exists());
}

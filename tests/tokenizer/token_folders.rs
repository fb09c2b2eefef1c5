//! Folders of tokens that other programs made, nanoGPT's, llm.c's and build-nanogpt's: each is read as what it is, or
//! refused before anything is trained on it.

use std::fs;
use std::path::Path;

use crate::common::{fail, folder, mlx_gpt, stderr, stdout, succeed, train_tiny};
use mlx_gpt::tokenizer::{CharTokenizer, Tokenizer};
use serde_json::Value;

/// A text of the characters of `tests/fixtures/meta-protocol-*.pkl`, with all of them.
fn text() -> String {
    let play: String = include_str!("../../assets/shakespeare.txt")
        .chars()
        .filter(|&character| character.is_ascii_alphabetic() || "\n !'-.,:;?".contains(character))
        .take(20_000)
        .collect();
    let others: String = (0x3B1..0x3B1 + 234).filter_map(char::from_u32).collect();
    let letters: String = ('a'..='z').chain('A'..='Z').collect();
    format!("{letters}\n !'-.,:;?éñ字😀{others}{play}")
}

/// Both parts of a text, as every program here cuts it.
fn parts(text: &str) -> [&str; 2] {
    let cut = text.chars().count() * 9 / 10;
    let cut = text.char_indices().nth(cut).unwrap().0;
    [&text[..cut], &text[cut..]]
}

fn narrow(ids: &[u32]) -> Vec<u8> {
    ids.iter()
        .flat_map(|&id| u16::try_from(id).unwrap().to_le_bytes())
        .collect()
}

fn wide(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// As llm.c's `write_datafile`.
fn llm_c(magic: u32, version: u32, ids: &[u32], bytes: Vec<u8>) -> Vec<u8> {
    let header = [magic, version, ids.len() as u32]
        .into_iter()
        .chain(std::iter::repeat_n(0, 253));
    [header.flat_map(u32::to_le_bytes).collect(), bytes].concat()
}

/// As `np.save`, version 1.0.
fn numpy(dtype: &str, ids: &[u32], bytes: Vec<u8>) -> Vec<u8> {
    let words = format!(
        "{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({},), }}",
        ids.len()
    );
    let words = format!("{words:<117}\n");
    [
        &b"\x93NUMPY\x01\x00"[..],
        &(words.len() as u16).to_le_bytes(),
        words.as_bytes(),
        &bytes,
    ]
    .concat()
}

/// Writes files into a new folder.
fn write(folder: &Path, files: &[(&str, Vec<u8>)]) {
    fs::create_dir(folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

fn meta(protocol: u32) -> Vec<u8> {
    let path = format!("tests/fixtures/meta-protocol-{protocol}.pkl");
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn train(folder: &Path, corpus: &str, more: &[&str]) -> std::process::Command {
    let out = format!("from-{corpus}");
    let mut command = train_tiny(folder, &["--steps", "2", "--corpus", corpus, "--out", &out]);
    command.args(more);
    command
}

fn weights(folder: &Path, corpus: &str) -> Vec<u8> {
    fs::read(folder.join(format!("from-{corpus}/latest/model.safetensors"))).unwrap()
}

fn eval(folder: &Path, options: &[&str]) -> Value {
    let mut command = mlx_gpt(folder);
    command.args(["eval", "--json", "--device", "cpu"]).args(options);
    serde_json::from_slice(&succeed(&mut command).stdout).unwrap()
}

#[test]
fn characters_are_those_of_meta_pkl() {
    let folder = folder();
    let text = text();
    fs::write(folder.path().join("text.txt"), &text).unwrap();
    let characters = CharTokenizer::from_text(&text);
    assert_eq!(characters.vocab_size(), 300);
    let ids = parts(&text).map(|part| characters.encode(part).unwrap());
    succeed(&mut train(folder.path(), "text.txt", &["--tokenizer", "char"]));
    for protocol in 2..=5 {
        let name = format!("nano{protocol}");
        let files = [
            ("train.bin", narrow(&ids[0])),
            ("val.bin", narrow(&ids[1])),
            ("meta.pkl", meta(protocol)),
        ];
        write(&folder.path().join(&name), &files);
        let said = stdout(&succeed(mlx_gpt(folder.path()).args(["data", "info", &name])));
        assert!(said.contains("300 characters") && said.contains("16 bits"), "{said}");
        succeed(&mut train(folder.path(), &name, &[]));
        assert!(
            weights(folder.path(), "text.txt") == weights(folder.path(), &name),
            "{name}"
        );
    }
    let written = fs::read_to_string(folder.path().join("from-nano4/latest/tokenizer.json")).unwrap();
    assert_eq!(
        written,
        fs::read_to_string(folder.path().join("from-text.txt/latest/tokenizer.json")).unwrap()
    );

    // Another tokenizer has other ids; a checkpoint of these characters is welcome.
    let said = fail(&mut train_tiny(
        folder.path(),
        &["--steps", "1", "--corpus", "nano4", "--tokenizer", "gpt2", "--out", "x"],
    ));
    assert!(
        said.contains("300 characters in ") && said.contains("meta.pkl") && said.contains("omit --tokenizer"),
        "{said}"
    );
    let theirs = eval(
        folder.path(),
        &["--checkpoint", "from-text.txt", "--corpus", "nano4", "--split", "val"],
    );
    let ours = eval(folder.path(), &["--checkpoint", "from-text.txt"]);
    assert_eq!(theirs["loss"], ours["loss"]);
    assert_eq!(theirs["tokens"].as_u64().unwrap(), ids[1].len() as u64 - 1);

    // Numbers of 32 bits, as other programs write beside such a file.
    let files = [
        ("train.bin", wide(&ids[0])),
        ("val.bin", wide(&ids[1])),
        ("meta.pkl", meta(4)),
    ];
    write(&folder.path().join("wide"), &files);
    succeed(&mut train(folder.path(), "wide", &[]));
    assert!(weights(folder.path(), "wide") == weights(folder.path(), "text.txt"));
}

#[test]
fn a_meta_pkl_that_tells_no_characters_asks_for_the_tokenizer() {
    let folder = folder();
    let gpt2 = Tokenizer::gpt2().unwrap();
    let ids = parts(&text()).map(|part| gpt2.encode(part).unwrap());
    let cases: [(&str, &[u8], &str); 5] = [
        // {'vocab_size': 50257, 'tokenizer': 'tiktoken'}
        (
            "tiktoken",
            b"\x80\x04}(\x8c\nvocab_sizeMQ\xc4\x8c\ttokenizer\x8c\x08tiktokenu.",
            "no itos and stoi",
        ),
        // {'vocab_size': 1, 'itos': {0: 'ab'}, 'stoi': {'ab': 0}}
        (
            "words",
            b"\x80\x04}(\x8c\nvocab_sizeK\x01\x8c\x04itos}K\x00\x8c\x02abs\x8c\x04stoi}\x8c\x02abK\x00su.",
            "\"ab\", is not a single character",
        ),
        // {'vocab_size': 1, 'itos': {1: 'a'}, 'stoi': {'a': 1}}
        (
            "gap",
            b"\x80\x04}(\x8c\nvocab_sizeK\x01\x8c\x04itos}K\x01\x8c\x01as\x8c\x04stoi}\x8c\x01aK\x01su.",
            "without gaps",
        ),
        // {'itos': {0: 'a'}, 'stoi': {'b': 0}}
        (
            "torn",
            b"\x80\x04}(\x8c\x04itos}K\x00\x8c\x01as\x8c\x04stoi}\x8c\x01bK\x00su.",
            "not the inverse of its itos",
        ),
        // os.system('touch RUN') when Python reads it
        (
            "code",
            b"cos\nsystem\n(X\x09\x00\x00\x00touch RUNtR.",
            "more than numbers, strings, lists and dicts",
        ),
    ];
    for (name, pickle, expected) in cases {
        let files = [
            ("train.bin", narrow(&ids[0])),
            ("val.bin", narrow(&ids[1])),
            ("meta.pkl", pickle.to_vec()),
        ];
        write(&folder.path().join(name), &files);
        let said = fail(&mut train(folder.path(), name, &[]));
        assert!(
            said.contains(expected) && said.contains("--tokenizer gpt2"),
            "{name}: {said}"
        );
        assert!(!folder.path().join(format!("from-{name}")).exists());
    }
    let said = stderr(&succeed(&mut train(
        folder.path(),
        "tiktoken",
        &["--tokenizer", "gpt2"],
    )));
    assert!(
        said.contains("note") && said.contains("meta.pkl could not be used"),
        "{said}"
    );
    assert!(!folder.path().join("RUN").exists());
}

#[test]
fn headers_and_widths_are_seen() {
    let folder = folder();
    let gpt2 = Tokenizer::gpt2().unwrap();
    let [train_ids, val_ids] = parts(&text()).map(|part| gpt2.encode(part).unwrap());
    let (first, second) = train_ids.split_at(1000);
    let v1 = |ids: &[u32]| llm_c(20240520, 1, ids, narrow(ids));
    write(
        &folder.path().join("nano"),
        &[("train.bin", narrow(&train_ids)), ("val.bin", narrow(&val_ids))],
    );
    write(
        &folder.path().join("renamed"),
        &[("train.bin", v1(&train_ids)), ("val.bin", v1(&val_ids))],
    );
    write(
        &folder.path().join("fineweb"),
        &[
            ("fineweb_val_000000.bin", v1(&val_ids)),
            ("fineweb_train_000001.bin", v1(first)),
            ("fineweb_train_000002.bin", v1(second)),
        ],
    );
    write(
        &folder.path().join("edu"),
        &[
            ("edufineweb_val_000000.npy", numpy("<u2", &val_ids, narrow(&val_ids))),
            ("edufineweb_train_000001.npy", numpy("<u2", first, narrow(first))),
            ("edufineweb_train_000002.npy", numpy("<i4", second, wide(second))),
        ],
    );
    // As llm.c wrote before it had headers.
    write(
        &folder.path().join("early"),
        &[
            ("tiny_shakespeare_train.bin", wide(&train_ids)),
            ("tiny_shakespeare_val.bin", wide(&val_ids)),
        ],
    );
    succeed(&mut train(folder.path(), "nano", &[]));
    for (corpus, kind) in [
        ("renamed", "llm.c's format, 16 bits"),
        ("fineweb", "2 file(s): llm.c's format, 16 bits"),
        ("edu", "2 file(s): NumPy's format, 16 bits; NumPy's format, 32 bits"),
        ("early", "bare numbers, as nanoGPT's, 32 bits"),
    ] {
        succeed(&mut train(folder.path(), corpus, &[]));
        assert!(
            weights(folder.path(), "nano") == weights(folder.path(), corpus),
            "{corpus}"
        );
        let said = stdout(&succeed(mlx_gpt(folder.path()).args(["data", "info", corpus])));
        assert!(
            said.contains(&format!("training     {} tokens", train_ids.len())) && said.contains(kind),
            "{said}"
        );
    }
    // Each part has its own, whatever the run learned from.
    let val = eval(
        folder.path(),
        &["--checkpoint", "from-nano", "--corpus", "edu", "--split", "val"],
    );
    assert_eq!(val["tokens"].as_u64().unwrap(), val_ids.len() as u64 - 1);
    let train_part = eval(
        folder.path(),
        &["--checkpoint", "from-nano", "--corpus", "fineweb", "--split", "train"],
    );
    assert_eq!(train_part["tokens"].as_u64().unwrap(), train_ids.len() as u64 - 1);

    // Llama 3's ids are none of GPT-2's.
    let v7 = |ids: &[u32]| llm_c(20240801, 7, ids, wide(ids));
    write(
        &folder.path().join("llama"),
        &[("train.bin", v7(&[128_000; 99])), ("val.bin", v7(&[1; 99]))],
    );
    let said = fail(&mut train(folder.path(), "llama", &[]));
    assert!(said.contains("token 128000") && said.contains("--tokenizer"), "{said}");
    let cut = v1(&train_ids);
    write(
        &folder.path().join("cut"),
        &[("train.bin", cut[..cut.len() - 2].to_vec()), ("val.bin", v1(&val_ids))],
    );
    let said = fail(&mut train(folder.path(), "cut", &[]));
    assert!(
        said.contains("train.bin is truncated") && said.contains("its header says"),
        "{said}"
    );
}

#[test]
fn a_vocabulary_over_65536_has_numbers_of_32_bits() {
    let folder = folder();
    let cl100k = Tokenizer::cl100k().unwrap();
    let text = format!("{}{}", text(), " 前後左右".repeat(300)); // ids over 65,535
    fs::write(folder.path().join("text.txt"), &text).unwrap();
    let ids = parts(&text).map(|part| cl100k.encode(part).unwrap());
    assert!(ids[0].iter().chain(&ids[1]).any(|&id| id > 0xffff));
    write(
        &folder.path().join("nano"),
        &[("train.bin", wide(&ids[0])), ("val.bin", wide(&ids[1]))],
    );
    let said = stdout(&succeed(mlx_gpt(folder.path()).args(["data", "info", "nano"])));
    assert!(said.contains("32 bits"), "{said}");
    let small = ["--tokenizer", "cl100k", "--layers", "1", "--heads", "1", "--embd", "8"];
    let mut of_text = mlx_gpt(folder.path());
    let common = [
        "train",
        "--steps",
        "2",
        "--context",
        "16",
        "--batch-size",
        "2",
        "--eval-batches",
        "1",
        "--device",
        "cpu",
    ];
    succeed(
        of_text
            .args(common)
            .args(small)
            .args(["--corpus", "text.txt", "--out", "from-text"]),
    );
    let mut of_ids = mlx_gpt(folder.path());
    succeed(
        of_ids
            .args(common)
            .args(small)
            .args(["--corpus", "nano", "--out", "from-nano"]),
    );
    assert!(weights(folder.path(), "text") == weights(folder.path(), "nano"));

    // Without the name, GPT-2's would be taken, which has not these ids.
    let said = fail(&mut train_tiny(
        folder.path(),
        &["--steps", "1", "--corpus", "nano", "--out", "x"],
    ));
    assert!(
        said.contains("32-bit numbers") && said.contains("vocabulary has 50257") && said.contains("--tokenizer"),
        "{said}"
    );
    // And what is of 16 bits cannot be of this vocabulary.
    let gpt2 = Tokenizer::gpt2().unwrap().encode(&text).unwrap();
    write(
        &folder.path().join("gpt2"),
        &[("train.bin", narrow(&gpt2[..1000])), ("val.bin", narrow(&gpt2[..1000]))],
    );
    let said = fail(&mut train_tiny(
        folder.path(),
        &[
            "--steps",
            "1",
            "--corpus",
            "gpt2",
            "--tokenizer",
            "cl100k",
            "--out",
            "x",
        ],
    ));
    assert!(
        said.contains("32-bit numbers") && said.contains("vocabulary has 100277"),
        "{said}"
    );
    assert!(!folder.path().join("x").exists());
}

#[test]
fn an_id_beyond_the_vocabulary_is_found_before_training() {
    let folder = folder();
    let mut ids = vec![7; 40_000];
    ids[39_990] = 50257; // no batch of so few steps has it
    write(
        &folder.path().join("nano"),
        &[("train.bin", narrow(&ids)), ("val.bin", narrow(&ids[..100]))],
    );
    let said = fail(&mut train(folder.path(), "nano", &[]));
    assert!(
        said.contains("token 50257 at position 39990") && said.contains("train.bin"),
        "{said}"
    );
    assert!(!folder.path().join("from-nano").exists());

    for (name, files, expected) in [
        ("half", &["train.bin"][..], "none for validation"),
        ("other", &["shard_val_0.bin"], "none for training"),
    ] {
        let files: Vec<_> = files.iter().map(|&name| (name, narrow(&ids))).collect();
        write(&folder.path().join(name), &files);
        let said = fail(&mut train(folder.path(), name, &[]));
        assert!(said.contains(expected), "{said}");
    }
    let said = fail(&mut train(folder.path(), "nano/train.bin", &[]));
    assert!(said.contains("a token file; give its folder"), "{said}");
}

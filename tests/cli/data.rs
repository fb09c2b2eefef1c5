//! Text to token shards, and training on them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::disk::Disk;
use crate::common::{Start, contents, fail, folder, mlx_gpt, signal, stderr, stdout, succeed, train_tiny, wait_until};

/// A folder of texts, about three megabytes.
fn write_texts(folder: &Path) {
    let play = include_str!("../../assets/shakespeare.txt");
    fs::create_dir(folder.join("texts")).unwrap();
    fs::write(folder.join("texts/a.txt"), play).unwrap();
    fs::write(folder.join("texts/b.txt"), play.replace('\n', "\r\n")).unwrap();
    fs::write(folder.join("texts/c.txt"), "前後\n左右\n".repeat(60_000)).unwrap();
}

fn prepare(folder: &Path, out: &str) -> std::process::Command {
    let mut command = mlx_gpt(folder);
    command.args([
        "data",
        "prepare",
        "--corpus",
        "texts",
        "--tokenizer",
        "gpt2",
        "--shard-size",
        "1",
        "--out",
        out,
    ]);
    command
}

#[test]
fn shards_hold_the_tokens_of_the_whole_text() {
    let folder = folder();
    write_texts(folder.path());
    let output = succeed(&mut prepare(folder.path(), "tokens"));
    assert!(stderr(&output).contains("CRLF"), "{}", stderr(&output));
    assert!(stdout(&output).contains("3 document(s)"), "{}", stdout(&output));

    // Block by block is as at once, for the parts on either side of the cut.
    let text: String = ["a", "b", "c"]
        .map(|name| {
            fs::read_to_string(folder.path().join(format!("texts/{name}.txt")))
                .unwrap()
                .replace("\r\n", "\n")
        })
        .concat();
    let characters = text.chars().count();
    let cut = text.char_indices().nth((characters as f64 * 0.9) as usize).unwrap().0;
    let tokenizer = mlx_gpt::tokenizer::Tokenizer::gpt2().unwrap();
    let play = include_str!("../../assets/shakespeare.txt");
    let documents = [play, play, &text[2 * play.len()..]];
    assert!(cut > 2 * play.len());
    let mut expected = Vec::new();
    for document in &documents[..2] {
        expected.extend(tokenizer.encode(document).unwrap());
        expected.push(50256);
    }
    expected.extend(tokenizer.encode(&text[2 * play.len()..cut]).unwrap());
    let mut validation = tokenizer.encode(&text[cut..]).unwrap();
    validation.push(50256);
    for (split, expected) in [("train", expected), ("val", validation)] {
        let mut shards: Vec<_> = contents(&folder.path().join("tokens"));
        shards.retain(|(name, _)| name.starts_with(split));
        assert!(split == "val" || shards.len() > 1, "{split}");
        let bytes: Vec<u8> = shards.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let ids: Vec<u32> = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&id| u16::from_le_bytes(id).into())
            .collect();
        assert!(
            ids == expected,
            "{split}: {} tokens against {}",
            ids.len(),
            expected.len()
        );
    }

    let again = succeed(&mut prepare(folder.path(), "tokens"));
    assert!(stderr(&again).contains("is already prepared"));
    let said = stdout(&succeed(mlx_gpt(folder.path()).args(["data", "info", "tokens"])));
    assert!(said.contains("vocabulary   50257, 2 bytes a token"), "{said}");
    let mut other = mlx_gpt(folder.path());
    other.args([
        "data",
        "prepare",
        "--corpus",
        "texts",
        "--tokenizer",
        "cl100k",
        "--out",
        "tokens",
    ]);
    let said = fail(&mut other);
    assert!(
        said.contains("was prepared with another tokenizer: it has 50257 tokens against 100261"),
        "{said}"
    );
}

#[test]
fn killed_and_started_again_it_writes_the_same_bytes() {
    let folder = folder();
    write_texts(folder.path());
    succeed(&mut prepare(folder.path(), "whole"));
    let expected = contents(&folder.path().join("whole"));
    for wait in [0, 5, 20] {
        let out = format!("cut-{wait}");
        let place = folder.path().join(&out);
        let mut child = prepare(folder.path(), &out).start_quietly();
        let started = Instant::now();
        while !place.join("train-00000.bin").exists() && started.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        succeed(&mut prepare(folder.path(), &out));
        assert!(contents(&place) == expected, "killed {wait} ms after the first shard");
    }
}

#[test]
fn training_on_shards_is_training_on_the_text() {
    let folder = folder();
    let play = include_str!("../../assets/shakespeare.txt");
    fs::write(folder.path().join("text.txt"), &play[..200_000]).unwrap();
    // One document: the end-of-text token stands after the last token only, in the validation part.
    succeed(mlx_gpt(folder.path()).args(["data", "prepare", "--corpus", "text.txt", "--out", "tokens"]));
    let train = |corpus: &str, more: &[&str]| {
        succeed(
            train_tiny(
                folder.path(),
                &[
                    "--steps",
                    "3",
                    "--corpus",
                    corpus,
                    "--out",
                    corpus.trim_end_matches(".txt"),
                ],
            )
            .args(more),
        );
    };
    fs::rename(folder.path().join("tokens"), folder.path().join("shards")).unwrap();
    let weights = |run: &str| fs::read(folder.path().join(run).join("latest/model.safetensors")).unwrap();
    train("text.txt", &["--tokenizer", "gpt2"]);
    succeed(&mut train_tiny(
        folder.path(),
        &["--steps", "3", "--corpus", "shards", "--out", "from-shards"],
    ));
    assert!(weights("text") == weights("from-shards"));

    // nanoGPT's files are such shards without a manifest.
    fs::create_dir(folder.path().join("nano")).unwrap();
    for (from, to) in [("train-00000.bin", "train.bin"), ("val-00000.bin", "val.bin")] {
        fs::copy(
            folder.path().join("shards").join(from),
            folder.path().join("nano").join(to),
        )
        .unwrap();
    }
    succeed(&mut train_tiny(
        folder.path(),
        &["--steps", "3", "--corpus", "nano", "--out", "from-nano"],
    ));
    assert!(weights("text") == weights("from-nano"));
    let said = stdout(&succeed(mlx_gpt(folder.path()).args(["data", "info", "nano"])));
    assert!(said.contains("nanoGPT"), "{said}");
    let ids = folder.path().join("nano/train.bin");
    fs::write(&ids, vec![0xff; fs::read(&ids).unwrap().len()]).unwrap();
    let said = fail(&mut train_tiny(
        folder.path(),
        &["--steps", "3", "--corpus", "nano", "--out", "beyond"],
    ));
    assert!(
        said.contains("token 65535") && said.contains("vocabulary has 50257"),
        "{said}"
    );

    // Evaluation and generation find the tokenizer in the checkpoint and the split in the shards.
    let eval = |run: &str| {
        let output = succeed(mlx_gpt(folder.path()).args(["eval", "--json", "--device", "cpu", "--checkpoint", run]));
        serde_json::from_str::<serde_json::Value>(&stdout(&output)).unwrap()
    };
    let (text, shards) = (eval("text"), eval("from-shards"));
    assert_eq!(
        text["tokens"].as_u64().unwrap() + 1,
        shards["tokens"].as_u64().unwrap(),
        "the end of the text"
    );
    assert!((text["loss"].as_f64().unwrap() - shards["loss"].as_f64().unwrap()).abs() < 1e-3);
    // A folder of tokens has its parts for any model, also one that learned from elsewhere.
    let part = |split: &str| {
        let corpus = ["--checkpoint", "text", "--corpus", "shards", "--split", split];
        let output = succeed(
            mlx_gpt(folder.path())
                .args(["eval", "--json", "--device", "cpu"])
                .args(corpus),
        );
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let tokens = ["train", "val", "all"].map(|split| part(split)["tokens"].as_u64().unwrap() + 1);
    assert_eq!(tokens[0] + tokens[1], tokens[2]);
    assert_eq!(tokens[1], shards["tokens"].as_u64().unwrap() + 1);
    assert!(text["bits_per_byte"].as_f64().unwrap() < text["loss"].as_f64().unwrap());
    succeed(mlx_gpt(folder.path()).args([
        "generate",
        "--device",
        "cpu",
        "--max-new-tokens",
        "5",
        "--checkpoint",
        "from-shards",
    ]));

    let said = fail(&mut train_tiny(
        folder.path(),
        &[
            "--steps",
            "1",
            "--corpus",
            "shards",
            "--tokenizer",
            "cl100k",
            "--out",
            "x",
        ],
    ));
    assert!(
        said.contains("prepared with another tokenizer: it has 50257 tokens against 100261"),
        "{said}"
    );
    let shard = folder.path().join("shards/train-00000.bin");
    let bytes = fs::read(&shard).unwrap();
    for cut in [1, 2] {
        fs::write(&shard, &bytes[..bytes.len() - cut]).unwrap();
        let said = fail(&mut train_tiny(
            folder.path(),
            &["--steps", "1", "--corpus", "shards", "--out", "x"],
        ));
        assert!(said.contains("train-00000.bin is truncated"), "{said}");
    }
    assert!(!folder.path().join("x").exists());
}

#[test]
fn shards_are_the_same_for_any_number_of_threads() {
    let folder = folder();
    write_texts(folder.path());
    let shards = |threads: &str| {
        succeed(prepare(folder.path(), threads).env("RAYON_NUM_THREADS", threads));
        contents(&folder.path().join(threads))
    };
    let one = shards("1");
    assert!(one.len() > 5, "several shards");
    for threads in ["2", "8"] {
        assert!(shards(threads) == one, "{threads} threads");
    }
}

#[test]
fn of_two_that_prepare_one_folder_one_says_so() {
    let folder = folder();
    write_texts(folder.path());
    let mut first = prepare(folder.path(), "tokens").start_quietly();
    wait_until("a beginning", &mut first, || {
        folder.path().join("tokens/journal.json").exists()
    });
    let said = fail(&mut prepare(folder.path(), "tokens"));
    assert!(
        said.contains("folder tokens is being prepared by another process"),
        "{said}"
    );
    assert!(first.wait().unwrap().success(), "the other is not disturbed");
    succeed(&mut prepare(folder.path(), "whole"));
    assert!(contents(&folder.path().join("tokens")) == contents(&folder.path().join("whole")));
}

/// Wherever the disk is full, the message names the file, and the same command goes on once there is space.
#[test]
fn a_full_disk_names_its_file_and_keeps_nobody_out() {
    let disk = Disk::mount();
    if !disk.mounted {
        return;
    }
    let folder = folder();
    write_texts(folder.path());
    succeed(&mut prepare(folder.path(), "whole"));
    let expected = contents(&folder.path().join("whole"));
    let place = disk.path().join("tokens");
    for left in [0, 4096, 8192, 100_000, 1_700_000, 2_500_000] {
        disk.fill(left);
        let said = fail(&mut prepare(folder.path(), place.to_str().unwrap()));
        assert!(
            said.contains(place.to_str().unwrap()) && (said.contains("; make space") || left == 0),
            "{left}: {said}"
        );
        disk.empty();
        succeed(&mut prepare(folder.path(), place.to_str().unwrap()));
        assert!(contents(&place) == expected, "{left}");
        fs::remove_dir_all(&place).unwrap();
    }
}

/// Ctrl-C removes the shard that is being written, and says how to go on.
#[test]
fn an_interrupted_preparation_leaves_whole_shards() {
    let folder = folder();
    write_texts(folder.path());
    let place = folder.path().join("tokens");
    let mut child = prepare(folder.path(), "tokens").start();
    wait_until("a shard", &mut child, || place.join("train-00000.bin").exists());
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("run the same command again to continue"), "{said}");
    assert!(contents(&place).iter().all(|(name, _)| !name.starts_with(".making-")));
    assert!(stderr(&succeed(&mut prepare(folder.path(), "tokens"))).contains("resuming after"));
}

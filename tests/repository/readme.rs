//! Every command of the README does what it says: run here, with few steps.

use std::fs;
use std::path::Path;

use crate::common::{TINY, folder, mlx_gpt, succeed};

/// The program's command lines in the README, as words, without comments.
fn commands() -> Vec<Vec<String>> {
    let readme = include_str!("../../README.md");
    let lines = readme
        .lines()
        .filter_map(|line| line.trim_start_matches("$ ").strip_prefix("cargo run -- "));
    let words = lines.map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace()
            .map(|word| word.trim_matches('\'').to_owned())
            .collect::<Vec<_>>()
    });
    words.collect()
}

/// A cache of Hugging Face's hub in which a small checkpoint stands for OpenAI's GPT-2: half a gigabyte is too much for a
/// test, and there need be no network.
fn put_into_cache(cache: &Path, checkpoint: &Path) {
    let model = cache.join("hub/models--openai-community--gpt2");
    let snapshot = model.join("snapshots/0123abcd");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(model.join("refs")).unwrap();
    fs::write(model.join("refs/main"), "0123abcd").unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(checkpoint.join(name), snapshot.join(name)).unwrap();
    }
}

#[test]
fn every_command_runs() {
    let folder = folder();
    fs::write(
        folder.path().join("notes.txt"),
        "A note to myself: measure first.\n".repeat(50),
    )
    .unwrap();
    let talk = |answer: &str| format!("{{\"prompt\": \"Hi\", \"completion\": \"{answer}\"}}\n");
    fs::write(folder.path().join("talks.jsonl"), talk("Ho") + &talk("Hey")).unwrap();
    let commands = commands();
    assert!(commands.len() >= 9, "the README lost its commands: {commands:?}");
    // Each in a folder with one run behind it, of the default corpus.
    let wide = TINY.map(|word| if word == "16" { "32" } else { word }); // wide enough for four bits a weight
    succeed(mlx_gpt(folder.path()).arg("train").args(wide).args(["--steps", "2"]));
    let run = fs::read_dir(folder.path().join("runs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let cache = folder.path().join("cache");
    put_into_cache(&cache, &run.join("latest"));
    // What a learner wrote is checked by workbook/tests/check.rs; the studio, which does not end by itself, by tests/studio/; what takes
    // minutes by tests/cli/minutes.rs.
    let has = |words: &[String], word: &str| words.iter().any(|other| other == word);
    let elsewhere = |words: &Vec<String>| has(words, "--mine") || has(words, "--minutes") || words[0] == "studio";
    for words in commands.into_iter().filter(|words| !elsewhere(words)) {
        let mut command = mlx_gpt(folder.path());
        // A few steps show that it runs.
        let mut words = words;
        if let Some(at) = words.iter().position(|word| word == "--steps") {
            words[at + 1] = "2".into();
        }
        command
            .args(&words)
            .env("HF_HOME", &cache)
            .env("HF_ENDPOINT", "http://127.0.0.1:9");
        if words[0] == "train" && !words.contains(&"--resume".into()) {
            let given = |option: &str| words.iter().any(|word| word == option);
            let out = format!("elsewhere/{}", words.join("_").replace('/', "_"));
            if given("--init-from") {
                command.args(["--device", "cpu", "--batch-size", "2", "--eval-batches", "1"]);
            } else {
                command.args(TINY);
            }
            command.args(["--out", &out]);
            if !given("--steps") {
                command.args(["--steps", "2"]);
            }
        }
        if words[0] == "chat" {
            command.args(["--checkpoint", "elsewhere/train_--chat_talks.jsonl_--steps_2"]);
        }
        if words[0] == "lesson" && words[1] != "start" {
            command.args(["--steps", "2", "--device", "cpu"]);
        }
        if ["generate", "eval", "doctor"].contains(&words[0].as_str()) {
            command.args(["--device", "cpu"]);
        }
        succeed(&mut command);
    }
}

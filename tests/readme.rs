//! Every command of the README does what it says: run here, with few steps.

mod common;

use common::{TINY, folder, mlx_gpt, succeed};

/// The program's command lines in the README, as words, without comments.
fn commands() -> Vec<Vec<String>> {
    let readme = include_str!("../README.md");
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

#[test]
fn every_command_runs() {
    let folder = folder();
    std::fs::write(
        folder.path().join("notes.txt"),
        "A note to myself: measure first.\n".repeat(50),
    )
    .unwrap();
    let commands = commands();
    assert!(commands.len() >= 9, "the README lost its commands: {commands:?}");
    // Each in a folder with one run behind it, of the default corpus.
    succeed(mlx_gpt(folder.path()).arg("train").args(TINY).args(["--steps", "2"]));
    for words in commands {
        let mut command = mlx_gpt(folder.path());
        // A few steps show that it runs.
        let mut words = words;
        if let Some(at) = words.iter().position(|word| word == "--steps") {
            words[at + 1] = "2".into();
        }
        command.args(&words);
        if words[0] == "train" && !words.contains(&"--resume".into()) {
            let given = |option: &str| words.iter().any(|word| word == option);
            let out = format!("elsewhere/{}", words.join("_").replace('/', "_"));
            command.args(TINY).args(["--out", &out]);
            if !given("--steps") {
                command.args(["--steps", "2"]);
            }
        }
        if ["generate", "eval", "doctor"].contains(&words[0].as_str()) {
            command.args(["--device", "cpu"]);
        }
        succeed(&mut command);
    }
}

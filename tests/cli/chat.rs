//! Training on conversations, `chat` and `eval` with such a model.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::{Start, fail, folder, generate, mlx_gpt, stderr, stdout, succeed, train_tiny};
use serde_json::Value;

/// Two questions, alone and one after the other, in both forms of a line; the first conversation is the one that is held out.
const FILE: &str = r#"{"prompt": "ba?", "completion": "no."}
{"prompt": "ab?", "completion": "no."}
{"prompt": "c?", "completion": "yes."}
{"messages": [{"role": "user", "content": "c?"}, {"role": "assistant", "content": "yes."}, {"role": "user", "content": "ab?"}, {"role": "assistant", "content": "no."}]}
{"messages": [{"role": "user", "content": "ab?"}, {"role": "assistant", "content": "no."}, {"role": "user", "content": "c?"}, {"role": "assistant", "content": "yes."}]}
"#;

fn train(folder: &Path, options: &[&str]) -> Command {
    fs::write(folder.join("chat.jsonl"), FILE).unwrap();
    let own = [
        "--chat",
        "chat.jsonl",
        "--context",
        "32",
        "--dropout",
        "0",
        "--batch-size",
        "8",
    ];
    train_tiny(folder, &[&own, options].concat())
}

/// A run in `folder/run` that has learned the answers.
fn learned(folder: &Path) {
    succeed(&mut train(
        folder,
        &["--embd", "32", "--steps", "300", "--lr", "0.01", "--out", "run"],
    ));
}

fn chat(folder: &Path, options: &[&str], lines: &str) -> Output {
    let mut command = mlx_gpt(folder);
    command.args(["chat", "--device", "cpu", "--checkpoint", "run", "--temperature", "0"]);
    let mut child = command.args(options).start();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

fn evaluated(folder: &Path, options: &[&str]) -> Value {
    let mut command = mlx_gpt(folder);
    command.args(["eval", "--device", "cpu", "--checkpoint", "run", "--json"]);
    serde_json::from_str(&stdout(&succeed(command.args(options)))).unwrap()
}

#[test]
fn a_model_takes_turns_through_a_pipe_and_is_evaluated() {
    let folder = folder();
    let path = folder.path();
    learned(path);
    let sample = fs::read_to_string(path.join("run/latest/sample.txt")).unwrap();
    assert!(
        sample.starts_with("<|user|>") && sample.contains("<|assistant|>"),
        "{sample}"
    );

    let lines = "ab?\nc?\n/reset\nc?\n/save said.jsonl\n/what\nc<|user|>?\nx?\n\n/help\n/quit\nab?\n";
    let output = chat(path, &[], lines);
    assert_eq!(stdout(&output), "no.\nyes.\nyes.\n");
    let said = stderr(&output);
    for expected in [
        "rejected: unknown command /what",
        "rejected: a message has the text of the special token <|user|>",
        "rejected: character 'x'",
        "appended to said.jsonl",
        "/reset        begin another conversation",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    // What is saved is what --chat reads, and nothing is written over.
    assert_eq!(stdout(&chat(path, &[], "ab?\n/save said.jsonl\n")), "no.\n");
    let saved = fs::read_to_string(path.join("said.jsonl")).unwrap();
    let first: Value = serde_json::from_str(saved.lines().next().unwrap()).unwrap();
    let message = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
    assert_eq!(
        first["messages"],
        serde_json::json!([message("user", "c?"), message("assistant", "yes.")])
    );
    let whole = evaluated(path, &["--chat", "said.jsonl", "--accuracy"]);
    assert_eq!(
        (&whole["accuracy"], &whole["answers"], &whole["tokens"]),
        (&1.0.into(), &2.into(), &9.into())
    );
    assert!(whole["loss"].as_f64().unwrap() < 0.1, "{whole}");

    // Of its own file, one conversation of five is held out.
    let own = evaluated(path, &[]);
    assert_eq!(own["conversations"], 1);
    assert_eq!(evaluated(path, &["--split", "all"])["tokens"], 4 + 4 + 5 + 9 + 9);
    let two = "{\"prompt\": \"ab?\", \"completion\": \"yes.\"}\n{\"prompt\": \"c?\", \"completion\": \"yes.\"}\n";
    fs::write(path.join("wrong.jsonl"), two).unwrap();
    let wrong = evaluated(path, &["--chat", "wrong.jsonl", "--accuracy"]);
    assert_eq!((&wrong["correct"], &wrong["answers"]), (&1.into(), &2.into()));
    assert!(wrong["loss"].as_f64().unwrap() > 0.5, "{wrong}");
    // Other commands go on as with any model.
    succeed(&mut generate(path, &["--prompt", "ab", "--max-new-tokens", "3"]));
}

#[test]
fn the_oldest_turns_give_way_and_that_is_said() {
    let folder = folder();
    let path = folder.path();
    learned(path);
    let turns = "c?\nab?\n".repeat(4);
    let output = chat(path, &[], &turns);
    assert_eq!(stdout(&output), "yes.\nno.\n".repeat(4));
    let said = stderr(&output);
    assert!(
        said.contains("the context of 32 tokens is full; the model no longer sees the 2 oldest"),
        "{said}"
    );
    assert!(said.contains("the 4 oldest"), "{said}");
    let output = chat(path, &[], &format!("{}\nc?\n", "ab".repeat(20)));
    assert_eq!(stdout(&output), "yes.\n");
    assert!(
        stderr(&output).contains("rejected: the last message takes 43 tokens"),
        "{}",
        stderr(&output)
    );
    // An answer of a token ends there.
    let output = chat(path, &["--max-new-tokens", "1"], "c?\n");
    assert_eq!(stdout(&output), "y\n");
    assert!(
        stderr(&output).contains("the answer ends after 1 tokens"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_trained_model_is_finetuned_whole_and_then_by_adapters() {
    let folder = folder();
    let path = folder.path();
    fs::write(path.join("text.txt"), "abc, no yes. ".repeat(40)).unwrap();
    let text = [
        "--corpus",
        "text.txt",
        "--context",
        "32",
        "--steps",
        "2",
        "--out",
        "base",
    ];
    succeed(&mut train_tiny(path, &text));
    let said = fail(&mut train(
        path,
        &["--init-from", "base", "--lora-rank", "2", "--out", "run"],
    ));
    assert!(
        said.contains("base has no chat template") || said.contains("has no chat template, and adapters"),
        "{said}"
    );
    assert!(!path.join("run").exists());
    let mut command = mlx_gpt(path);
    let said = fail(command.args(["chat", "--device", "cpu", "--checkpoint", "base"]));
    assert!(said.contains("base") && said.contains("--chat FILE"), "{said}");

    let steps = ["--init-from", "base", "--steps", "3", "--out", "run"];
    let report = stderr(&succeed(&mut train(path, &steps)));
    assert!(
        report.contains("4 training conversations, 1 validation conversations"),
        "{report}"
    );
    let config = |file: &str| -> Value {
        let bytes = fs::read(path.join(file)).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    // The characters of the text are " ,.abcenosy", those of the conversations have a question mark too.
    assert_eq!(config("run/latest/config.json")["vocab_size"], 11 + 1 + 4);
    assert_eq!(config("run/latest/config.json")["eos_token_id"], 15);
    let own = config("run/latest/tokenizer_config.json");
    assert!(own["chat_template"].as_str().unwrap().contains("<|assistant|>"));
    assert_eq!(own["eos_token"], "<|end_of_turn|>");

    let adapters = [
        "--init-from",
        "run",
        "--lora-rank",
        "2",
        "--steps",
        "3",
        "--out",
        "tuned",
        "--optimizer",
        "adamw",
    ];
    succeed(&mut train(path, &adapters));
    fs::rename(path.join("run"), path.join("whole")).unwrap();
    fs::rename(path.join("tuned"), path.join("run")).unwrap();
    chat(path, &["--max-new-tokens", "2"], "ab?\n");
    // Exported and imported, it is the same chat model.
    let merged = ["export", "--checkpoint", "run", "--format", "hf", "--out", "hf"];
    succeed(mlx_gpt(path).args(merged));
    assert_eq!(config("hf/tokenizer_config.json"), own);
    let tuned = evaluated(path, &["--split", "all"]);
    fs::rename(path.join("run"), path.join("tuned")).unwrap();
    succeed(mlx_gpt(path).args(["import", "hf", "--out", "run"]));
    let imported = evaluated(path, &["--chat", "chat.jsonl"]);
    let close = imported["loss"].as_f64().unwrap() - tuned["loss"].as_f64().unwrap();
    assert!(close.abs() < 1e-4, "{imported} {tuned}");
    // Trained further on a text, it still is.
    let further = [
        "--init-from",
        "run",
        "--corpus",
        "text.txt",
        "--steps",
        "1",
        "--out",
        "further",
    ];
    succeed(&mut train_tiny(path, &[&further[..], &["--context", "32"]].concat()));
    assert_eq!(config("further/latest/tokenizer_config.json"), own);
}

#[test]
fn conversations_that_cannot_be_learned_are_named() {
    let folder = folder();
    let path = folder.path();
    let attempt = |contents: &str, options: &[&str]| {
        fs::write(path.join("c.jsonl"), contents).unwrap();
        let said = fail(&mut train_tiny(
            path,
            &[&["--chat", "c.jsonl", "--out", "run"], options].concat(),
        ));
        assert!(!path.join("run").exists(), "{said}");
        said
    };
    let good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    for (contents, expected) in [
        ("", "c.jsonl is empty"),
        (
            &format!("{good}{{}}\n"),
            "c.jsonl, line 2: it has neither messages nor prompt and completion",
        ),
        (&format!("{good}{good}"), "its validation part has no conversation"),
        (
            &format!("{good}{{\"prompt\": \"<|end_of_turn|>\", \"completion\": \"b\"}}\n"),
            "c.jsonl, line 2: a message has the text of the special token",
        ),
        (
            &format!("{{\"prompt\": \"{}\", \"completion\": \"b\"}}\n{good}", "a".repeat(20)),
            "an answer begins within a context of 16 tokens; the longest has 25",
        ),
    ] {
        let said = attempt(contents, &[]);
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let said = attempt(good, &["--task", "addition"]);
    assert!(said.contains("two kinds of data"), "{said}");
    let said = attempt(good, &["--corpus", "c.jsonl"]);
    assert!(said.contains("leave out corpus"), "{said}");
}

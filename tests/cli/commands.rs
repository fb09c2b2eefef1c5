//! The program as its user runs it: results, progress, exit codes, pipes.

use std::io::Read;

use crate::common::{Start, fail, folder, mlx_gpt, stderr, stdout, succeed, train_tiny, trained};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_run_leaves_what_it_promises() {
    let folder = folder();
    let output = succeed(&mut train_tiny(
        folder.path(),
        &["--steps", "12", "--eval-every", "5", "--save-every", "5"],
    ));
    assert!(output.stdout.is_empty(), "progress goes to stderr");
    let said = stderr(&output);
    for expected in [
        "parameters",
        "ms a step",
        "of disk",
        "step      0/12",
        "step     12/12",
        "loss.svg",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }

    let run = std::fs::read_dir(folder.path().join("runs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert!(
        run.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("shakespeare-nano-")
    );
    assert_eq!(
        std::fs::read_link(run.join("latest")).unwrap().to_str(),
        Some("step-000012")
    );
    for step in ["step-000005", "step-000010", "step-000012", "best"] {
        for file in [
            "model.safetensors",
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "optimizer.safetensors",
            "state.json",
            "sample.txt",
        ] {
            assert!(run.join(step).join(file).is_file(), "{step}/{file}");
        }
    }
    let svg = std::fs::read_to_string(run.join("loss.svg")).unwrap();
    for name in ["batch", "train", "validation"] {
        assert!(svg.contains(name), "the curve of {name}");
    }
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = metrics.lines().map(json).collect();
    let evaluated: Vec<u64> = lines
        .iter()
        .filter(|line| line.get("val_loss").is_some())
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(evaluated, [0, 5, 10, 12]);
    let logged: Vec<&Value> = lines.iter().filter(|line| line.get("loss").is_some()).collect();
    assert_eq!(
        logged
            .iter()
            .map(|line| line["step"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [1, 10, 12]
    );
    for key in ["loss", "lr", "grad_norm", "tokens_per_second", "memory"] {
        assert!(logged[0][key].is_number(), "{key}");
    }
    // An untrained model expects every character alike.
    let untrained = lines[0]["val_loss"].as_f64().unwrap();
    assert!((untrained - 65f64.ln()).abs() < 0.05, "{untrained}");
    assert!(lines.last().unwrap()["val_loss"].as_f64().unwrap() < untrained);

    // A run's own config.toml starts it again, and every later command finds the newest run by itself.
    let config = run.join("config.toml");
    succeed(
        mlx_gpt(folder.path())
            .arg("train")
            .arg("--config")
            .arg(&config)
            .args(["--out", "again"]),
    );
    assert_eq!(
        std::fs::read(run.join("latest/model.safetensors")).unwrap(),
        std::fs::read(folder.path().join("again/latest/model.safetensors")).unwrap(),
        "two runs of one configuration and seed are the same to the bit"
    );
    let listed = stdout(&succeed(mlx_gpt(folder.path()).arg("runs")));
    assert!(listed.contains("12/12") && listed.contains("complete"), "{listed}");
    let healthy = stdout(&succeed(mlx_gpt(folder.path()).args([
        "doctor",
        "--checkpoint",
        "again",
    ])));
    assert!(healthy.contains("6 files as they were written"), "{healthy}");
    succeed(mlx_gpt(folder.path()).args(["generate", "--max-new-tokens", "3", "--device", "cpu"]));
}

#[test]
fn another_seed_is_another_run() {
    let folder = folder();
    let said = |seed: &str| {
        let output = succeed(&mut train_tiny(
            folder.path(),
            &["--steps", "2", "--seed", seed, "--out", seed],
        ));
        stderr(&output)
            .lines()
            .filter(|line| line.contains("validation"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_ne!(said("1"), said("2"));
}

#[test]
fn evaluation_is_exact_and_its_json_is_alone_on_stdout() {
    let folder = folder();
    let run = trained(folder.path(), "3");
    let output = succeed(
        mlx_gpt(folder.path())
            .args(["eval", "--json", "--device", "cpu", "--checkpoint"])
            .arg(&run),
    );
    let result = json(&stdout(&output));
    // Nine plays of 1,149,620 characters; the last tenth but its first character is predicted.
    assert_eq!(result["tokens"], 114_961);
    let loss = result["loss"].as_f64().unwrap();
    assert!((result["perplexity"].as_f64().unwrap() - loss.exp()).abs() < 1e-9);
    assert!(
        (result["bits_per_byte"].as_f64().unwrap() - loss / std::f64::consts::LN_2).abs() < 1e-9,
        "one byte a character"
    );

    // Any text is measured whole; two windows and a rest of one of seven tokens here.
    std::fs::write(
        folder.path().join("text.txt"),
        "To be, or not to be: that is the question",
    )
    .unwrap();
    let other = [
        "eval",
        "--device",
        "cpu",
        "--json",
        "--corpus",
        "text.txt",
        "--checkpoint",
    ];
    let result = json(&stdout(&succeed(mlx_gpt(folder.path()).args(other).arg(&run))));
    assert_eq!(result["tokens"], 40);
    let said = fail(mlx_gpt(folder.path()).args(other).arg(&run).args(["--split", "val"]));
    assert!(said.contains("leave --split out"), "{said}");
}

#[test]
fn generation_repeats_with_its_seed_and_outgrows_the_context() {
    let folder = folder();
    let run = trained(folder.path(), "3");
    let generate = |more: &[&str]| {
        let mut command = mlx_gpt(folder.path());
        command
            .args(["generate", "--device", "cpu", "--max-new-tokens", "50", "--checkpoint"])
            .arg(&run)
            .args(more);
        stdout(&succeed(&mut command))
    };
    let text = generate(&["--seed", "3", "--prompt", "ROMEO:"]);
    assert!(text.starts_with("ROMEO:"));
    assert_eq!(
        text.chars().count(),
        6 + 50 + 1,
        "fifty tokens after a context of sixteen"
    );
    assert_eq!(text, generate(&["--seed", "3", "--prompt", "ROMEO:"]));
    assert_ne!(text, generate(&["--seed", "4", "--prompt", "ROMEO:"]));
    assert_eq!(
        generate(&["--temperature", "0"]),
        generate(&["--temperature", "0", "--seed", "9"])
    );
    assert_eq!(generate(&["--temperature", "0"]), generate(&["--top-k", "1"]));

    let result = json(&generate(&[
        "--json",
        "--samples",
        "2",
        "--seed",
        "3",
        "--prompt",
        "ROMEO:",
    ]));
    let samples = result["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 2);
    assert_eq!(
        samples[0]["text"].as_str().unwrap(),
        &text["ROMEO:".len()..text.len() - 1]
    );
    assert_ne!(samples[0]["ids"], samples[1]["ids"]);
    for sample in samples {
        assert_eq!(sample["ids"].as_array().unwrap().len(), 50);
        assert!(
            sample["logprobs"]
                .as_array()
                .unwrap()
                .iter()
                .all(|p| p.as_f64().unwrap() <= 0.0)
        );
    }
}

#[test]
fn a_closed_pipe_ends_generation_quietly() {
    let folder = folder();
    let run = trained(folder.path(), "2");
    let mut child = mlx_gpt(folder.path())
        .args([
            "generate",
            "--device",
            "cpu",
            "--max-new-tokens",
            "100000",
            "--checkpoint",
        ])
        .arg(&run)
        .start();
    child.stdout.take().unwrap().read_exact(&mut [0; 20]).unwrap(); // and the reader is dropped, as `head` would
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let said = stderr(&output);
    assert!(!said.contains("error") && !said.contains("panic"), "{said}");
}

#[test]
fn a_run_outlives_the_terminal_it_was_started_from() {
    let folder = folder();
    let mut child = train_tiny(folder.path(), &["--steps", "30", "--eval-every", "5", "--out", "run"]).start();
    drop(child.stderr.take()); // nobody reads any more
    assert!(child.wait().unwrap().success());
    assert!(folder.path().join("run/latest/model.safetensors").exists());
}

#[test]
fn wrong_usage_exits_with_2() {
    let folder = folder();
    for arguments in [
        &["train", "--stepz", "3"][..],
        &["nonsense"],
        &["train", "--dtype", "int3"],
        &["generate", "--seed", "x"],
    ] {
        let output = mlx_gpt(folder.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains("error:"));
    }
    assert!(contents_is_empty(folder.path()));
}

fn contents_is_empty(folder: &std::path::Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn every_command_explains_itself() {
    let folder = folder();
    for command in ["train", "generate", "eval", "runs", "doctor"] {
        let help = stdout(&succeed(mlx_gpt(folder.path()).args([command, "--help"])));
        assert!(
            help.contains("Example") && help.contains(&format!("mlx-gpt {command}")),
            "{help}"
        );
    }
    let version = stdout(&succeed(mlx_gpt(folder.path()).arg("--version")));
    assert!(version.contains("MLX 0.32.2"), "{version}");
    assert!(
        stdout(&succeed(mlx_gpt(folder.path()).args(["doctor", "--device", "cpu"])))
            .contains("works, eager and compiled")
    );
    assert!(stdout(&succeed(mlx_gpt(folder.path()).arg("runs"))).contains("no runs"));
}

#[test]
fn it_runs_from_anywhere_with_next_to_no_environment() {
    let folder = folder();
    let run = trained(folder.path(), "1");
    for arguments in [
        &["doctor", "--device", "cpu", "--checkpoint"][..],
        &["eval", "--json", "--device", "cpu", "--checkpoint"],
    ] {
        // Its kernels go to the test's folder, as nothing says where a home is.
        succeed(
            mlx_gpt(std::path::Path::new("/"))
                .env_clear()
                .env("TMPDIR", folder.path())
                .args(arguments)
                .arg(&run),
        );
    }
}

#[test]
fn text_with_marks_and_carriage_returns_trains_and_says_so() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("notes")).unwrap();
    let text = "\u{feff}".to_owned() + &"Ein Männlein steht im Walde\r\n".repeat(20);
    std::fs::write(folder.path().join("notes/one.txt"), text).unwrap();
    let output = succeed(&mut train_tiny(
        folder.path(),
        &["--steps", "1", "--corpus", "notes", "--out", "run"],
    ));
    let said = stderr(&output);
    assert!(said.contains("byte-order mark") && said.contains("20 CRLF"), "{said}");
    let vocabulary = std::fs::read_to_string(folder.path().join("run/latest/tokenizer.json")).unwrap();
    assert!(vocabulary.contains('ä') && !vocabulary.contains("\\r\""));
}

//! Runs that an earlier version wrote: they load, generate and resume; what they use of what is gone is refused in words.
//!
//! `tests/fixtures/old_runs` has them, and what that version said of them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::{fail, folder, mlx_gpt, stderr, stdout, succeed};
use serde_json::Value;
use tempfile::TempDir;

/// Another processor sums in another order.
const TOLERANCE: f64 = 1e-4;

/// The runs of an earlier version.
const RUNS: [&str; 3] = ["run", "lora", "modern"];

/// A folder with all of them, as they were left.
fn old_runs() -> TempDir {
    let folder = folder();
    for run in RUNS {
        let (from, to) = (stored().join(run), folder.path().join(run));
        fs::create_dir_all(to.join("step-000010")).unwrap();
        for inside in ["", "step-000010"] {
            for entry in fs::read_dir(from.join(inside)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    fs::copy(&path, to.join(inside).join(path.file_name().unwrap())).unwrap();
                }
            }
        }
        for link in ["latest", "best"] {
            symlink("step-000010", to.join(link)).unwrap();
        }
    }
    folder
}

fn stored() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/old_runs")
}

fn expected(run: &str) -> Value {
    let all: Value = serde_json::from_slice(&fs::read(stored().join("expected.json")).unwrap()).unwrap();
    all[run].clone()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = succeed(mlx_gpt(folder).args(arguments).args(["--device", "cpu", "--json"]));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn close(what: &str, ours: &Value, theirs: &Value) {
    let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
    assert!((ours - theirs).abs() < TOLERANCE, "{what}: {ours}, was {theirs}");
}

#[test]
fn they_load_and_generate_what_they_did() {
    let folder = old_runs();
    for run in RUNS {
        let expected = expected(run);
        let evaluation = json(folder.path(), &["eval", "--checkpoint", run]);
        close(run, &evaluation["loss"], &expected["eval_loss"]);
        let greedy = ["--temperature", "0", "--max-new-tokens", "12", "--prompt", "To be"];
        let generated = json(
            folder.path(),
            &[&["generate", "--checkpoint", run], &greedy[..]].concat(),
        );
        let sample = &generated["samples"][0];
        assert_eq!(sample["ids"], expected["greedy_ids"], "{run}");
        let logprobs = sample["logprobs"].as_array().unwrap();
        for (ours, theirs) in logprobs.iter().zip(expected["greedy_logprobs"].as_array().unwrap()) {
            close(run, ours, theirs);
        }
    }
}

#[test]
fn they_resume_to_where_they_would_have_come() {
    let folder = old_runs();
    for run in RUNS {
        let said = stderr(&succeed(mlx_gpt(folder.path()).args(["train", "--resume", run])));
        assert!(said.contains("resuming after step 10"), "{said}");
        assert!(!said.contains("changed"), "nothing is another setting: {said}");
        let expected = expected(run);
        let metrics = fs::read_to_string(folder.path().join(run).join("metrics.jsonl")).unwrap();
        let mut compared = 0;
        for line in metrics.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            if line["step"] != 20 {
                continue;
            }
            for (key, value) in expected["after_step_20"].as_object().unwrap() {
                if let Some(ours) = line.get(key) {
                    close(&format!("{run}, {key}"), ours, value);
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 5, "{metrics}");
    }
}

/// The run of an earlier version, with a setting added to its configuration and to its checkpoint's.
fn with_setting(folder: &Path, key: &str, value: &str) {
    let config = folder.join("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let kept = text.lines().filter(|line| !line.starts_with(key));
    let text: String = kept
        .chain([format!("{key} = {value}").as_str()])
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(config, text).unwrap();
    let path = folder.join("run/step-000010/state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state["config"][key] = value.parse::<u64>().unwrap().into();
    fs::write(path, serde_json::to_string(&state).unwrap()).unwrap();
}

#[test]
fn batches_that_grow_are_refused_in_words() {
    let folder = old_runs();
    with_setting(folder.path(), "batch_start", "2");
    with_setting(folder.path(), "batch_ramp", "8");
    let train = |options: &[&str]| {
        let mut command = mlx_gpt(folder.path());
        command.arg("train").args(options);
        command
    };
    let said = fail(&mut train(&["--resume", "run"]));
    assert!(said.contains("batch_start") && said.contains("--init-from"), "{said}");
    // A configuration without it does not make the checkpoint another one.
    let whole = fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
    let without: String = whole
        .lines()
        .filter(|line| !line.starts_with("batch_"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(folder.path().join("run/config.toml"), without + "batch_size = 4\n").unwrap();
    let said = fail(&mut train(&["--resume", "run"]));
    assert!(said.contains("batch_start") && said.contains("--init-from"), "{said}");

    fs::write(folder.path().join("old.toml"), whole).unwrap();
    let said = fail(&mut train(&["--config", "old.toml", "--out", "new"]));
    assert!(
        said.contains("old.toml") && said.contains("batch_start") && said.contains("remove"),
        "{said}"
    );
    assert!(!folder.path().join("new").exists());

    // Its weights are as good as any.
    json(folder.path(), &["eval", "--checkpoint", "run"]);
    succeed(mlx_gpt(folder.path()).args(["runs", "."]));
    succeed(&mut train(&[
        "--init-from",
        "run",
        "--out",
        "next",
        "--steps",
        "1",
        "--batch-size",
        "2",
        "--device",
        "cpu",
    ]));
}

#[test]
fn a_configuration_of_an_earlier_version_starts_a_run() {
    let folder = old_runs();
    succeed(mlx_gpt(folder.path()).args(["train", "--config", "run/config.toml", "--out", "new", "--steps", "1"]));
    let config = fs::read_to_string(folder.path().join("new/config.toml")).unwrap();
    assert!(!config.contains("batch_ramp"), "{config}");
}

#[test]
fn flags_that_are_gone_are_usage_errors() {
    let folder = folder();
    for flag in ["--batch-start", "--batch-ramp"] {
        let output = mlx_gpt(folder.path()).args(["train", flag, "2"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
}

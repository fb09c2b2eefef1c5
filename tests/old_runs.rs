//! Runs that an earlier version wrote: they load, generate and resume.
//!
//! `tests/fixtures/old_runs` has them, and what that version said of them.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{folder, mlx_gpt, stderr, stdout, succeed};
use serde_json::Value;
use tempfile::TempDir;

/// Another processor sums in another order.
const TOLERANCE: f64 = 1e-4;

/// A folder with both runs, as they were left.
fn old_runs() -> TempDir {
    let folder = folder();
    for run in ["run", "lora"] {
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
    for run in ["run", "lora"] {
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
    for run in ["run", "lora"] {
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

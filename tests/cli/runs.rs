//! What the folder of a run says and is used for, around training.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::common::{contents, fail, folder, mlx_gpt, stderr, stdout, succeed, train_tiny, trained};
use serde_json::Value;

#[test]
fn a_folder_with_something_else_in_it_is_left_alone() {
    let folder = folder();
    let place = folder.path().join("drawings");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("loss.svg"), "mine").unwrap();
    let before = contents(&place);
    let said = fail(&mut train_tiny(folder.path(), &["--steps", "1", "--out", "drawings"]));
    assert!(
        said.contains("drawings is not empty and not a run: it contains loss.svg; choose another --out"),
        "{said}"
    );
    assert_eq!(contents(&place), before);
    // An empty one will do.
    fs::create_dir(folder.path().join("empty")).unwrap();
    succeed(&mut train_tiny(folder.path(), &["--steps", "1", "--out", "empty"]));
}

#[test]
fn a_run_that_lost_its_checkpoints_says_so() {
    let folder = folder();
    let run = trained(folder.path(), "2");
    fs::remove_dir_all(run.join("step-000002")).unwrap();
    let said = stderr(&succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run"])));
    assert!(
        said.contains("the checkpoints of run run are gone (step-000002 was the newest): it restarts at step 0"),
        "{said}"
    );
    let said = stderr(&succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run"])));
    assert!(!said.contains("restarts"), "{said}");
}

/// A checkpoint that cannot be read is not one that is missing, and one at step 0 is one.
#[test]
fn the_listing_tells_a_damaged_checkpoint_from_none() {
    let folder = folder();
    let run = trained(folder.path(), "2");
    let listed = || stdout(&succeed(mlx_gpt(folder.path()).args(["runs", "."])));
    assert!(listed().contains("complete"), "{}", listed());

    let state = run.join("step-000002/state.json");
    let text = fs::read_to_string(&state).unwrap();
    fs::write(&state, &text[..text.len() / 2]).unwrap();
    assert!(
        listed().contains("damaged: ") && listed().contains("state.json"),
        "{}",
        listed()
    );
    let json = stdout(&succeed(mlx_gpt(folder.path()).args(["runs", ".", "--json"])));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(
        json["runs"][0]["damaged"].as_str().unwrap().contains("state.json"),
        "{json}"
    );

    let mut stopped: Value = serde_json::from_str(&text).unwrap();
    stopped["step"] = 0.into();
    fs::write(&state, stopped.to_string()).unwrap();
    fs::rename(run.join("step-000002"), run.join("step-000000")).unwrap();
    assert!(listed().contains("continue with --resume"), "{}", listed());

    fs::remove_dir_all(run.join("step-000000")).unwrap();
    assert!(listed().contains("no checkpoint yet"), "{}", listed());
}

#[test]
fn changed_settings_are_said_and_written_down() {
    let folder = folder();
    let run = trained(folder.path(), "2");
    let resume = ["train", "--resume", "run", "--steps", "4", "--lr", "0.0005"];
    let said = stderr(&succeed(mlx_gpt(folder.path()).args(resume)));
    assert!(
        said.contains("changed  steps 2 is now 4; the schedule still ends at step 2")
            && said.contains("changed  lr 0.004 is now 0.0005"),
        "{said}"
    );
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let changes: Vec<&Value> = lines.iter().filter(|line| line.get("changes").is_some()).collect();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0]["step"], 2);
    let first = changes[0]["changes"][0].as_str().unwrap();
    assert!(first.starts_with("steps 2 is now 4"), "{first}");
    // The same options again are no change.
    let said = stderr(&succeed(mlx_gpt(folder.path()).args(resume)));
    assert!(!said.contains("changed"), "{said}");
}

/// Whoever watches a run has a loss every ten steps, however seldom it is evaluated, resumed or not.
#[test]
fn a_step_and_its_loss_are_logged_every_ten_steps() {
    let folder = folder();
    for every in ["1", "7", "1000"] {
        let out = format!("every-{every}");
        let options = [
            "--steps",
            "23",
            "--eval-every",
            every,
            "--save-every",
            "12",
            "--out",
            &out,
        ];
        succeed(&mut train_tiny(folder.path(), &options));
        let run = folder.path().join(&out);
        let logged = || -> Vec<u64> {
            let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
            let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines
                .filter(|line| line["loss"].is_f64())
                .map(|line| line["step"].as_u64().unwrap())
                .collect()
        };
        assert_eq!(logged(), [1, 10, 20, 23]);
        fs::remove_dir_all(run.join("step-000023")).unwrap();
        succeed(mlx_gpt(folder.path()).args(["train", "--resume", &out]));
        assert_eq!(logged(), [1, 10, 20, 23]);
    }
}

#[test]
fn proposed_commands_work_in_a_shell() {
    let folder = folder();
    let said = stderr(&succeed(&mut train_tiny(
        folder.path(),
        &["--steps", "1", "--out", "my 'first' run"],
    )));
    let proposed = said.lines().find_map(|line| line.strip_prefix("next     ")).unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!("{proposed} --max-new-tokens 3 --device cpu")])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{proposed}: {}", stderr(&output));
    let said = fail(&mut train_tiny(
        folder.path(),
        &["--steps", "1", "--out", "my 'first' run"],
    ));
    let proposed = said
        .split("continue it with ")
        .nth(1)
        .unwrap()
        .split(", or")
        .next()
        .unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!("{} train {proposed}", env!("CARGO_BIN_EXE_mlx-gpt"))])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(
        stderr(&output).contains("is complete at step 1"),
        "{proposed}: {}",
        stderr(&output)
    );
}

/// A clock that goes backwards leaves files of the future behind.
#[test]
fn a_run_from_the_future_has_no_negative_age() {
    let folder = folder();
    let run = trained(folder.path(), "1");
    let future = SystemTime::now() + Duration::from_secs(86_400);
    fs::File::options()
        .append(true)
        .open(run.join("metrics.jsonl"))
        .unwrap()
        .set_modified(future)
        .unwrap();
    let listed = stdout(&succeed(mlx_gpt(folder.path()).args(["runs", "."])));
    assert!(listed.contains("0 seconds ago"), "{listed}");
    succeed(mlx_gpt(folder.path()).args(["train", "--resume", "run", "--steps", "2"]));
}

/// Lines and nothing else in a file or a pipe; and with stderr closed, what would be said there goes nowhere, into no file
/// of the run.
#[test]
fn progress_needs_no_terminal_and_no_stderr() {
    let folder = folder();
    let output = succeed(&mut train_tiny(
        folder.path(),
        &["--steps", "3", "--eval-every", "1", "--out", "piped"],
    ));
    assert!(
        !output.stderr.iter().any(|byte| *byte == b'\r' || *byte == 0x1b),
        "{}",
        stderr(&output)
    );
    let status = Command::new("sh")
        .args([
            "-c",
            "exec \"$0\" train --config piped/config.toml --out closed 2>&-",
            env!("CARGO_BIN_EXE_mlx-gpt"),
        ])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    for file in [
        "config.toml",
        "latest/model.safetensors",
        "latest/optimizer.safetensors",
    ] {
        let read = |run: &str| fs::read(folder.path().join(run).join(file)).unwrap();
        assert!(read("piped") == read("closed"), "{file}");
    }
    let metrics = fs::read_to_string(folder.path().join("closed/metrics.jsonl")).unwrap();
    assert!(
        metrics.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "{metrics}"
    );
}

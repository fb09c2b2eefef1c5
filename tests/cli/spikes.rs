//! A loss that rises far above its level, in a run as a user has it.

use std::fs;
use std::path::Path;

use crate::common::learned::learned;
use crate::common::{copy, folder, mlx_gpt, says, stderr, succeed, train_tiny, wait_until};

/// A run of 160 steps, and the options that let it diverge from there.
fn ordinary(folder: &Path) {
    let options = [
        "--optimizer",
        "adamw",
        "--steps",
        "160",
        "--save-every",
        "20",
        "--eval-every",
        "200",
    ];
    let options = [&options[..], &["--keep-last", "0", "--out", "run"]].concat();
    succeed(&mut train_tiny(folder, &options));
}

const DIVERGE: [&str; 8] = [
    "train",
    "--resume",
    "run",
    "--steps",
    "400",
    "--lr",
    "3",
    "--schedule-steps=400",
];

/// What a run that fails says.
fn failing(folder: &Path) -> String {
    let output = mlx_gpt(folder).args(DIVERGE).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_run_that_diverges_returns_once_also_if_it_is_killed_then() {
    let home = folder();
    ordinary(home.path());
    let other = folder();
    copy(&home.path().join("run"), &other.path().join("run"));

    let said = failing(home.path());
    assert!(
        said.contains("training continues after step 160 with other batches"),
        "{said}"
    );
    let error = said.lines().last().unwrap();
    assert!(
        error.starts_with("error: step ")
            && error.contains("again after the run returned")
            && error.contains("with a --lr below 3"),
        "{said}"
    );

    // Killed after it returned.
    let output = other.path().join("said");
    let mut child = mlx_gpt(other.path())
        .args(DIVERGE)
        .stderr(fs::File::create(&output).unwrap())
        .spawn()
        .unwrap();
    wait_until("its return", &mut child, || says(&output, "with other batches"));
    child.kill().unwrap();
    child.wait().unwrap();
    let said = failing(other.path());
    assert!(said.contains("again after the run returned"), "{said}");
    let (ours, theirs) = (learned(&other.path().join("run")), learned(&home.path().join("run")));
    assert!(ours == theirs);
    let changes = ours.lines.iter().filter(|line| !line["changes"].is_null());
    assert_eq!(changes.count(), 1, "what changed on the resume stays recorded");
}

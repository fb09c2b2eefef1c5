//! `bench sweep`: every training once, however often it is stopped, and never a look at the validation text.

use std::fs;
use std::path::Path;

use crate::common::{Start, fail, folder, mlx_gpt, says, signal, stderr, stdout, succeed, wait_until};
use serde_json::Value;

const BASE: &str = "
[base]
layers = 1
heads = 2
embd = 16
context = 16
batch_size = 4
warmup = 5
device = \"cpu\"
threads = 1
";

/// Two rates that train and one whose numbers run away, with two seeds.
fn write_plan(folder: &Path, steps: u64) {
    let plan = format!(
        "preset = \"nano\"\nseeds = [1, 2]\n{BASE}steps = {steps}\n\n[grid]\nlr = [1e-9, 1e30, 1e-2]\nmin_lr = 0.0\n"
    );
    fs::write(folder.join("plan.toml"), plan).unwrap();
}

fn lines(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("plan.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Rate, seed and loss of each line.
fn losses(folder: &Path) -> Vec<(f64, u64, Value)> {
    let losses = lines(folder).into_iter().map(|line| {
        let rate = line["settings"]["lr"].as_f64().unwrap();
        (rate, line["seed"].as_u64().unwrap(), line["loss"].clone())
    });
    losses.collect()
}

#[test]
fn a_sweep_that_is_stopped_and_killed_repeats_and_loses_nothing() {
    let undisturbed = folder();
    write_plan(undisturbed.path(), 300);
    let sweep = ["bench", "sweep", "plan.toml"];
    let table = stdout(&succeed(mlx_gpt(undisturbed.path()).args(sweep)));

    let folder = folder();
    let path = folder.path();
    write_plan(path, 300);
    let mut lines_before = 0;
    for way in ["-INT", "-KILL"] {
        let mut child = mlx_gpt(path).args(sweep).start();
        wait_until("one more training", &mut child, || {
            fs::read_to_string(path.join("plan.jsonl")).is_ok_and(|text| text.lines().count() > lines_before)
        });
        signal(&child, way);
        let output = child.wait_with_output().unwrap();
        let done = lines(path).len();
        assert!(lines_before < done && done < 6, "{way} came too late to show anything");
        lines_before = done;
        if way == "-INT" {
            assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
            assert!(stderr(&output).contains("continue with: "), "{}", stderr(&output));
            assert!(
                stdout(&output).contains("1/2"),
                "what was done so far: {}",
                stdout(&output)
            );
        }
    }
    // What a process that died while it was writing leaves.
    let mut text = fs::read_to_string(path.join("plan.jsonl")).unwrap();
    let whole = text.clone();
    text.push_str("{\"settings\":{\"lr");
    fs::write(path.join("plan.jsonl"), text).unwrap();

    succeed(mlx_gpt(path).args(sweep));
    assert!(says(&path.join("plan.jsonl"), &whole), "lines stay as they are");
    assert_eq!(losses(path), losses(undisturbed.path()), "each once, to the bit");
    let order: Vec<(f64, u64)> = losses(path).iter().map(|(rate, seed, _)| (*rate, *seed)).collect();
    assert_eq!(
        order,
        [(1e-9, 1), (1e30, 1), (1e-2, 1), (1e-9, 2), (1e30, 2), (1e-2, 2)]
    );

    // Nothing is left to do: the table comes from the file.
    let again = succeed(mlx_gpt(path).args(sweep));
    assert_eq!(lines(path).len(), 6);
    let rates = |table: &str| -> Vec<String> {
        let rows = table
            .lines()
            .skip(2)
            .map(|row| row.split('|').nth(1).unwrap().trim().to_owned());
        rows.collect()
    };
    assert_eq!(rates(&stdout(&again)), rates(&table));
    assert_eq!(rates(&table)[0], "0.01", "the best first: {table}");
    assert!(table.lines().last().unwrap().contains("diverged"), "{table}");

    let json = stdout(&succeed(mlx_gpt(path).args(sweep).arg("--json")));
    let json: Value = serde_json::from_str(&json).unwrap();
    let best = &json["ranking"][0];
    let both: Vec<f64> = (0..2)
        .map(|seed| best["losses"][seed]["loss"].as_f64().unwrap())
        .collect();
    // serde_json reads numbers to within a unit in the last place.
    let close = |key: &str, expected: f64| (best[key].as_f64().unwrap() - expected).abs() < 1e-14;
    assert!(close("mean", (both[0] + both[1]) / 2.0), "{best}");
    assert!(close("spread", (both[0] - both[1]).abs()), "{best}");
    assert!(best["mean"].as_f64() < json["ranking"][1]["mean"].as_f64());
    assert_eq!(json["ranking"][2]["mean"], Value::Null);
}

/// Two texts that differ in their validation part alone have the same losses, of another training part others.
#[test]
fn the_validation_text_plays_no_part() {
    let texts = [
        "abcdefghij".repeat(300),
        "abcdefghij".repeat(270) + &"jihgfedcba".repeat(30),
        { "jihgfedcba".repeat(30) + &"abcdefghij".repeat(270) },
    ];
    let losses = texts.map(|text| {
        let folder = folder();
        fs::write(folder.path().join("text.txt"), text).unwrap();
        let plan = format!("preset = \"nano\"\nseeds = [1]\n{BASE}corpus = \"text.txt\"\nsteps = 3\n[grid]\n");
        fs::write(folder.path().join("plan.toml"), plan).unwrap();
        succeed(mlx_gpt(folder.path()).args(["bench", "sweep", "plan.toml"]));
        lines(folder.path())[0]["loss"].as_f64().unwrap()
    });
    assert_eq!(losses[0], losses[1]);
    assert_ne!(losses[0], losses[2]);
}

#[test]
fn a_plan_that_cannot_be_followed() {
    let folder = folder();
    let path = folder.path();
    for (plan, expected) in [
        ("", "missing field `preset`"),
        ("preset = \"mano\"\nseeds = [1]\n[grid]\n", "unknown variant `mano`"),
        ("preset = \"nano\"\nseeds = []\n[grid]\nlr = [1]\n", "seeds is empty"),
        (
            "preset = \"nano\"\nseeds = [1, 2, 1]\n[grid]\nlr = [1]\n",
            "seed 1 is there twice",
        ),
        (
            "preset = \"nano\"\nseeds = [1]\n[grid]\nlrr = [1]\n",
            "unknown field `lrr`",
        ),
        ("preset = \"nano\"\nseeds = [1]\n[grid]\nlr = [-1.0]\n", "lr is -1"),
        // Before the first training.
        (
            "preset = \"nano\"\nseeds = [1]\n[grid]\nheads = [4, 3]\n",
            "heads 3 does not divide embd 128",
        ),
        (
            "preset = \"nano\"\nseeds = [1]\n[base]\nseed = 3\n[grid]\n",
            "seed is below [base]",
        ),
    ] {
        fs::write(path.join("plan.toml"), plan).unwrap();
        let said = fail(mlx_gpt(path).args(["bench", "sweep", "plan.toml"]));
        assert!(said.contains("plan.toml") && said.contains(expected), "{said}");
        assert!(!path.join("plan.jsonl").exists());
    }
    fs::write(path.join("plan.toml"), "preset = \"nano\"\nseeds = [1]\n[grid]\n").unwrap();
    fs::write(path.join("plan.jsonl"), "{}\n").unwrap();
    let said = fail(mlx_gpt(path).args(["bench", "sweep", "plan.toml"]));
    assert!(said.contains("line 1 of plan.jsonl is of something else"), "{said}");
}

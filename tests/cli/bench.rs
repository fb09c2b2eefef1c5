//! `bench` measures and says what it is asked to. Nothing here holds a time against a bound: the machine is busy with
//! other tests.

use std::path::Path;
use std::process::Output;

use crate::common::{folder, mlx_gpt, stdout, succeed};
use serde_json::Value;

/// `bench` with these words, on the CPU device of any machine.
fn bench(folder: &Path, words: &str) -> Output {
    let mut command = mlx_gpt(folder);
    command.arg("bench").args(words.split(' ')).args(["--device", "cpu"]);
    succeed(&mut command)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn positive(value: &Value, key: &str) -> f64 {
    let number = value[key].as_f64().unwrap_or_else(|| panic!("{key} of {value}"));
    assert!(number > 0.0 && number.is_finite(), "{key} of {value}");
    number
}

/// Figures hang together: speed by the times of the phases, shares by what they are shares of.
#[test]
fn json_has_the_machine_and_the_sizes() {
    let report = json(&bench(folder().path(), "--preset nano --steps 3 --threads 2 --json"));
    let machine = &report["machine"];
    assert!(!machine["processor"].as_str().unwrap().is_empty());
    positive(machine, "cores");
    positive(machine, "memory");
    assert_eq!((&machine["device"], &machine["threads"]), (&"cpu".into(), &2.into()));
    let (sgemm, bandwidth) = (
        positive(&report["peaks"], "sgemm"),
        positive(&report["peaks"], "bandwidth"),
    );

    let sizes = report["sizes"].as_array().unwrap();
    assert_eq!((sizes.len(), &sizes[0]["preset"]), (1, &"nano".into()));
    assert_eq!(sizes[0]["parameters"], 809_856);
    let training = &sizes[0]["training"];
    for (key, value) in [("batch_size", 12), ("context", 64), ("grad_accum", 1), ("steps", 3)] {
        assert_eq!(training[key], value, "{key}");
    }
    // 6 · 801,664 parameters without position embeddings + 12 · 4 layers · 128 channels · 64 tokens.
    assert_eq!(training["flops_per_token"], 5_203_200);
    let phases = &training["milliseconds"];
    let [data, step] = ["data", "step"].map(|phase| positive(phases, phase));
    positive(phases, "evaluation");
    positive(phases, "logging");
    let speed = positive(training, "tokens_per_second");
    assert!((speed * (data + step) / 768e3 - 1.0).abs() < 1e-9, "{training}"); // 768 tokens a step; the same two numbers
    // Four float32 sets of the parameters at least: themselves, two moments, gradients.
    assert!(positive(training, "peak_memory") >= (4 * 4 * 809_856) as f64);

    let generation = &sizes[0]["generation"];
    positive(generation, "first_token_milliseconds");
    assert_eq!(generation["bytes_per_token"], 4 * 801_664);
    let shares = [
        (positive(training, "share_of_sgemm"), speed * 5_203_200.0 / sgemm),
        (
            positive(generation, "share_of_bandwidth"),
            positive(generation, "tokens_per_second") * 4.0 * 801_664.0 / bandwidth,
        ),
    ];
    for (share, expected) in shares {
        assert!((share / expected - 1.0).abs() < 1e-9, "{report}");
    }
}

#[test]
fn what_is_not_asked_for_is_not_measured() {
    let report = json(&bench(
        folder().path(),
        "--preset nano --only training --steps 1 --threads 1 --json",
    ));
    assert!(report["peaks"].is_null() && report["sizes"][0]["generation"].is_null());
    assert!(report["sizes"][0]["training"]["share_of_sgemm"].is_null());
    assert_eq!(report["machine"]["threads"], 1);
}

#[test]
fn the_table_has_a_line_for_each_measurement() {
    let output = bench(
        folder().path(),
        "--preset nano,nano --only training,generation --steps 1",
    );
    let text = stdout(&output);
    assert!(text.lines().next().unwrap().contains("on the cpu"), "{text}");
    for (table, columns) in [("| training", 11), ("| generation", 6)] {
        let lines: Vec<&str> = text
            .lines()
            .skip_while(|line| !line.starts_with(table))
            .take(4)
            .collect();
        assert!(
            lines[2].starts_with("| nano") && lines[3].starts_with("| nano"),
            "{text}"
        );
        for line in lines {
            assert_eq!(line.matches('|').count(), columns + 1, "{line}");
        }
    }
}

#[test]
fn scaling_says_how_time_grows_and_draws_it() {
    let folder = folder();
    let words = "scaling --steps 1 --threads 2 --out plots/scaling.svg --json";
    let report = json(&bench(folder.path(), words));
    let lines = report["scaling"].as_array().unwrap();
    let names: Vec<&str> = lines.iter().map(|line| line["of"].as_str().unwrap()).collect();
    assert_eq!(names, ["batch", "context", "width", "vocabulary"]);
    let svg = std::fs::read_to_string(folder.path().join("plots/scaling.svg")).unwrap();
    for line in lines {
        let points = line["points"].as_array().unwrap();
        assert!(points.len() >= 4);
        points.iter().for_each(|point| _ = positive(point, "milliseconds"));
        let exponent = line["exponent"].as_f64().unwrap();
        let said = format!("exponent {exponent:.2}");
        assert!(line["words"].as_str().unwrap().contains(&said), "{line}");
        assert!(svg.contains(&said), "{said} is not in the plot");
    }
}

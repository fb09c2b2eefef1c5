//! `MLX_GPT_KERNELS`.

use std::path::Path;

use mlx_gpt::compute::kernels::{self, KernelState};
use serde_json::Value;

use super::{doctor, line};
use crate::common::{fail, folder, mlx_gpt, stderr, stdout, succeed, train_tiny};

/// All that is replaced, as MLX's sources call it.
const REPLACED: [&str; 12] = [
    "Scheduler::enqueue",
    "Scheduler::signal_event",
    "Scheduler::wait_event",
    "addmm",
    "cblas_sgemm",
    "fast::layer_norm",
    "fast::rms_norm",
    "fast::scaled_dot_product_attention",
    "logsumexp",
    "matmul",
    "quantized_matmul",
    "take",
];

/// Each replacement is what MLX computes with: one that is not linked, or that MLX does not reach, is named here.
#[test]
fn every_replacement_is_in_effect() {
    assert_eq!(kernels::setting().as_deref(), Some("on"));
    kernels::run_all().unwrap();
    let replaced = kernels::replaced();
    let missing: Vec<&str> = REPLACED
        .into_iter()
        .filter(|function| {
            !replaced
                .iter()
                .any(|kernel| kernel.function == *function && kernel.state == KernelState::Called)
        })
        .collect();
    assert!(
        missing.is_empty(),
        "MLX computes these without kernels/: {}",
        missing.join(", ")
    );
    assert_eq!(replaced.len(), REPLACED.len(), "{replaced:?}");
}

#[test]
fn doctor_says_which_are_in_effect() {
    let folder = folder();
    let said = stdout(&succeed(&mut doctor(folder.path())));
    let on = line(&said, "kernels");
    assert!(on.contains(" on: 12 of MLX's CPU functions are replaced"), "{on}");
    let said = stdout(&succeed(doctor(folder.path()).env("MLX_GPT_KERNELS", "off")));
    let off = line(&said, "kernels");
    assert!(off.contains(" off ") && off.contains("MLX's own"), "{off}");
    let said = stdout(&succeed(
        doctor(folder.path()).env("MLX_GPT_KERNELS_WITHOUT", "take,scheduler"),
    ));
    let some = line(&said, "kernels");
    assert!(some.contains(" on without scheduler, take: 8 of"), "{some}");
}

#[test]
fn bench_says_which_are_in_effect() {
    let folder = folder();
    let bench = |kernels| {
        let mut command = mlx_gpt(folder.path());
        command.env("MLX_GPT_KERNELS", kernels);
        command.args("bench --device cpu --preset nano --only training --steps 1 --threads 1".split(' '));
        command
    };
    for kernels in ["on", "off"] {
        let said = stdout(&succeed(&mut bench(kernels)));
        assert!(
            said.contains(&format!("kernels {kernels} ")) && said.contains("OpenBLAS"),
            "{said}"
        );
        let report: Value = serde_json::from_slice(&succeed(bench(kernels).arg("--json")).stdout).unwrap();
        assert_eq!(report["machine"]["kernels"], kernels);
        assert!(
            report["machine"]["blas"].as_str().unwrap().contains("OpenBLAS"),
            "{report}"
        );
    }
}

#[test]
fn a_setting_that_means_nothing_is_one_line_at_start() {
    let folder = folder();
    for wrong in ["of", "ON", "1", ""] {
        let said = fail(mlx_gpt(folder.path()).arg("runs").env("MLX_GPT_KERNELS", wrong));
        assert!(
            said.contains(&format!("MLX_GPT_KERNELS is \"{wrong}\"")) && said.contains("off"),
            "{said}"
        );
    }
    for wrong in ["attention", "take,", "take,,addmm", "tak"] {
        let said = fail(mlx_gpt(folder.path()).arg("runs").env("MLX_GPT_KERNELS_WITHOUT", wrong));
        assert!(said.contains("MLX_GPT_KERNELS_WITHOUT"), "{said}");
    }
}

/// The training losses of `nano`, by step, with kernels `on` or `off`.
fn losses(folder: &Path, kernels: &str, threads: &str) -> Vec<(u64, f64)> {
    let run = format!("{kernels}-{threads}");
    let mut command = mlx_gpt(folder);
    command.args("train --preset nano --device cpu --steps 60 --eval-every 60 --eval-batches 1".split(' '));
    succeed(
        command
            .args(["--threads", threads, "--out", &run])
            .env("MLX_GPT_KERNELS", kernels),
    );
    let metrics = std::fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let losses = lines.filter_map(|line| Some((line["step"].as_u64()?, line["loss"].as_f64()?)));
    losses.collect()
}

/// Other orders of summation, and Muon, which carries rounding on: 1e-5 over ten steps, 5e-3 over sixty.
#[test]
fn a_run_has_the_losses_that_it_has_with_mlx_alone() {
    let folder = folder();
    for threads in ["1", "2"] {
        let [ours, own] = ["on", "off"].map(|kernels| losses(folder.path(), kernels, threads));
        assert!(
            ours.iter().any(|(step, _)| *step == 10) && ours.iter().any(|(step, _)| *step == 60),
            "{ours:?}"
        );
        assert_eq!(ours.len(), own.len());
        for (ours, own) in ours.iter().zip(&own) {
            let bound = if ours.0 <= 10 { 1e-5 } else { 5e-3 };
            assert!(
                ours.0 == own.0 && (ours.1 - own.1).abs() <= bound,
                "{ours:?} with kernels, {own:?} without"
            );
        }
        assert_ne!(ours, own, "other kernels round otherwise: the switch does nothing");
    }
}

/// A checkpoint records what its numbers were computed with, and a resume says what of it is another.
#[test]
fn a_resume_with_other_kernels_says_so() {
    let folder = folder();
    let state = folder.path().join("run/latest/state.json");
    succeed(&mut train_tiny(folder.path(), &["--out", "run", "--steps", "2"]));
    let recorded: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    assert_eq!(recorded["arithmetic"]["kernels"], "on", "{recorded}");
    for (steps, kernels, changed) in [("3", "on", false), ("4", "off", true), ("5", "off", false)] {
        let mut resume = mlx_gpt(folder.path());
        resume
            .args(["train", "--resume", "run", "--steps", steps])
            .env("MLX_GPT_KERNELS", kernels);
        let said = stderr(&succeed(&mut resume));
        assert_eq!(said.contains("changed  kernels on is now off"), changed, "{said}");
    }
    let recorded: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    assert_eq!(recorded["arithmetic"]["kernels"], "off", "{recorded}");
    let metrics = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("kernels on is now off").count(), 1, "{metrics}");
}

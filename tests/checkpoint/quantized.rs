//! Weights of four and eight bits: what they cost in loss, what they save, and that they are what mlx-lm has.

use std::fs;
use std::path::Path;

use crate::common::{fail, folder, mlx_gpt, succeed};
use mlx_gpt::config::Quantization;
use mlx_gpt::model::linear::quantized::quantize;
use mlx_rs::{Array, Dtype};
use serde_json::Value;

/// A model that has learned something: two blocks of 128, 300 steps.
fn learned(folder: &Path) {
    let shape = [
        "--layers",
        "2",
        "--heads",
        "4",
        "--embd",
        "128",
        "--context",
        "32",
        "--steps",
        "300",
    ];
    let recipe = [
        "--lr",
        "4e-3",
        "--warmup",
        "20",
        "--eval-every",
        "300",
        "--save-every",
        "300",
        "--eval-batches",
        "2",
    ];
    succeed(mlx_gpt(folder).arg("train").args(shape).args(recipe).args([
        "--device",
        "cpu",
        "--threads",
        "2",
        "--out",
        "run",
    ]));
    // Every twentieth line of the validation text will do to measure on.
    let corpus = include_str!("../../assets/shakespeare.txt");
    let lines: Vec<&str> = corpus
        .lines()
        .skip(corpus.lines().count() * 9 / 10)
        .step_by(20)
        .collect();
    fs::write(folder.join("text.txt"), lines.join("\n")).unwrap();
}

fn loss(folder: &Path, checkpoint: &str) -> f64 {
    let mut eval = mlx_gpt(folder);
    eval.args([
        "eval",
        "--checkpoint",
        checkpoint,
        "--corpus",
        "text.txt",
        "--json",
        "--device",
        "cpu",
    ]);
    let result: Value = serde_json::from_slice(&succeed(&mut eval).stdout).unwrap();
    result["loss"].as_f64().unwrap()
}

#[test]
fn a_quantized_model_loses_little_and_is_small() {
    let folder = folder();
    learned(folder.path());
    let full = loss(folder.path(), "run");
    assert!(full < 2.6, "it learned: {full}");
    let size = |model: &str| {
        fs::metadata(folder.path().join(model).join("model.safetensors"))
            .unwrap()
            .len() as f64
    };
    for (bits, tolerance, share) in [(8, 0.01, 0.36), (4, 0.1, 0.3)] {
        for group_size in [32, 64, 128] {
            let out = format!("q{bits}-{group_size}");
            let (bits, group_size) = (bits.to_string(), group_size.to_string());
            succeed(
                mlx_gpt(folder.path())
                    .args(["export", "--checkpoint", "run", "--format", "mlx", "--bits", &bits])
                    .args(["--group-size", &group_size, "--out", &out]),
            );
            let quantized = loss(folder.path(), &out);
            assert!(
                (quantized - full).abs() <= tolerance,
                "{out}: {quantized} against {full}"
            );
            assert_ne!(quantized, full);
            assert!(size(&out) <= share * size("run/latest"), "{out}: {} bytes", size(&out));
        }
    }
    succeed(mlx_gpt(folder.path()).args([
        "generate",
        "--checkpoint",
        "q4-64",
        "--max-new-tokens",
        "40",
        "--device",
        "cpu",
    ]));

    // What cannot be done with one says so.
    let said = fail(mlx_gpt(folder.path()).args(["train", "--init-from", "q4-64", "--device", "cpu"]));
    assert!(said.contains("are quantized and cannot be trained"), "{said}");
    for format in ["hf", "gguf", "mlx"] {
        let mut export = mlx_gpt(folder.path());
        let said = fail(export.args(["export", "--checkpoint", "q4-64", "--format", format, "--out", "again"]));
        assert!(said.contains("are already quantized"), "{said}");
    }
    let config = folder.path().join("q4-64/config.json");
    let text = fs::read_to_string(&config).unwrap();
    for (old, new, expected) in [
        ("\"bits\": 4", "\"bits\": 7", "7-bit quantization is not supported"),
        ("\"bits\": 4", "\"bits\": 3", "has shape"),
        ("\"bits\": 4", "\"bits\": 8", "has shape"),
        ("\"group_size\": 64", "\"group_size\": 32", "has shape"),
        (
            "\"bits\": 4",
            "\"bits\": 4, \"mode\": \"mxfp4\"",
            "its quantization is mxfp4",
        ),
        (
            "\"bits\": 4",
            "\"bits\": 4, \"model.wte\": {}",
            "is not a GPT-2 configuration",
        ),
    ] {
        assert!(text.contains(old), "{text}");
        fs::write(&config, text.replace(old, new)).unwrap();
        let said = fail(mlx_gpt(folder.path()).args(["generate", "--checkpoint", "q4-64", "--device", "cpu"]));
        assert!(said.contains(expected), "{new}: {said}");
    }
}

/// What `command` prints as JSON, with this program's kernels or MLX's own.
fn with_kernels(folder: &Path, kernels: &str, command: &[&str]) -> Value {
    let mut program = mlx_gpt(folder);
    program.args(command).args(["--device", "cpu", "--json"]);
    serde_json::from_slice(&succeed(program.env("MLX_GPT_KERNELS", kernels)).stdout).unwrap()
}

/// Many rows at a time, as in `eval`, and one at a time, as in `generate`; packed weights, and those of 16 bits, which are mapped
/// from their file.
#[test]
fn losses_are_those_of_mlx_s_own_products() {
    let folder = folder();
    learned(folder.path());
    let export = |options: &[&str], out: &str| {
        let mut export = mlx_gpt(folder.path());
        succeed(
            export
                .args(["export", "--checkpoint", "run", "--out", out])
                .args(options),
        );
    };
    for bits in ["8", "4"] {
        export(&["--format", "mlx", "--bits", bits], bits);
    }
    for dtype in ["float16", "bfloat16"] {
        export(&["--format", "hf", "--dtype", dtype], dtype);
    }
    for model in ["8", "4", "float16", "bfloat16"] {
        let eval = ["eval", "--checkpoint", model, "--corpus", "text.txt"];
        let [ours, own] =
            ["on", "off"].map(|kernels| with_kernels(folder.path(), kernels, &eval)["loss"].as_f64().unwrap());
        assert!((ours - own).abs() <= 1e-4, "{model}: {ours}, {own} by MLX's own");

        let mut generate = vec!["generate", "--checkpoint", model, "--prompt", "The", "--seed", "1"];
        generate.extend(["--temperature", "0", "--max-new-tokens", "60"]);
        let [ours, own] =
            ["on", "off"].map(|kernels| with_kernels(folder.path(), kernels, &generate)["samples"][0].clone());
        assert_eq!(ours["ids"], own["ids"], "{model}");
        let numbers = |sample: &Value| -> Vec<f32> { serde_json::from_value(sample["logprobs"].clone()).unwrap() };
        let off = crate::common::largest_difference(&numbers(&ours), &numbers(&own));
        assert!(off <= 1e-3, "{model}: log-probabilities are off by {off}");
        assert_ne!(
            ours["logprobs"], own["logprobs"],
            "{model}: other kernels round otherwise"
        );
    }
}

#[test]
fn widths_that_do_not_divide_are_refused() {
    let folder = folder();
    let shape = [
        "--layers",
        "1",
        "--heads",
        "2",
        "--context",
        "8",
        "--steps",
        "1",
        "--eval-batches",
        "1",
    ];
    for (embd, options, expected) in [
        (
            "48",
            &["--group-size", "32"][..],
            "only multiples of 32 can be quantized",
        ),
        (
            "96",
            &["--group-size", "64"],
            "does not divide into groups of 64; choose a group size of 32",
        ),
        ("96", &["--bits", "5"], "5 bits are not supported; choose 4 or 8"),
        ("96", &["--group-size", "16"], "a group size of 16 is not supported"),
        ("96", &["--dtype", "float16"], "--dtype only applies to hf and gguf"),
    ] {
        if !folder.path().join(embd).exists() {
            let train = [
                "train",
                "--embd",
                embd,
                "--out",
                embd,
                "--batch-size",
                "2",
                "--device",
                "cpu",
            ];
            succeed(mlx_gpt(folder.path()).args(train).args(shape));
        }
        let mut export = mlx_gpt(folder.path());
        export.args(["export", "--checkpoint", embd, "--format", "mlx", "--out", "out"]);
        let said = fail(export.args(options));
        assert!(said.contains(expected), "{said}");
        assert!(!folder.path().join("out").exists());
    }
    // Without a choice, an odd width gets groups that divide it.
    succeed(mlx_gpt(folder.path()).args(["export", "--checkpoint", "96", "--format", "mlx", "--out", "out"]));
    let said = fail(mlx_gpt(folder.path()).args([
        "export",
        "--checkpoint",
        "96",
        "--format",
        "hf",
        "--out",
        "x",
        "--bits",
        "4",
    ]));
    assert!(
        said.contains("--bits and --group-size only apply to --format mlx"),
        "{said}"
    );
}

/// Each number of a group is within a step of what it was, a step being the group's range over the number of steps
/// that so many bits can tell apart; and the names are mlx-lm's.
#[test]
fn quantized_numbers_are_within_a_step() {
    let folder = folder();
    let checkpoint = crate::common::random_checkpoint(
        folder.path(),
        mlx_gpt::tokenizer::CharTokenizer::from_text("abcdefgh").into(),
        64,
        2,
    );
    for bits in Quantization::BITS {
        let quantization = Quantization { bits, group_size: 32 };
        let (model, quantized) = quantize(&checkpoint.model, &checkpoint.parameters, quantization).unwrap();
        assert_eq!(model.quantization, Some(quantization));
        let part = |name: &str| quantized.get(&format!("h.0.mlp.c_fc.{name}")).unwrap();
        assert_eq!(part("weight").dtype(), Dtype::Uint32);
        let back = mlx_rs::ops::dequantize(part("weight"), part("scales"), part("biases"), 32, bits as i32).unwrap();
        let back = back.to_vec_exact::<f32>().unwrap(); // [out, in]
        let original: &Array = checkpoint.parameters.get("h.0.mlp.c_fc.weight").unwrap();
        let original = original
            .transpose()
            .unwrap()
            .contiguous()
            .unwrap()
            .to_vec_exact::<f32>()
            .unwrap();
        let steps = ((1 << bits) - 1) as f32;
        for (group, theirs) in original.chunks(32).zip(back.chunks(32)) {
            let (low, high) = group
                .iter()
                .fold((0f32, 0f32), |(low, high), &x| (low.min(x), high.max(x)));
            // MLX moves the scale a little so that zero is a step: a group can be off by one step at its far end.
            let step = (high - low) / steps;
            assert!(
                crate::common::largest_difference(group, theirs) <= 1.01 * step,
                "{bits} bits"
            );
        }
    }
}

//! Training a checkpoint further: with some parameters frozen, or with low-rank adapters beside all of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::learned::{Bounds, same_tensors};
use crate::common::{contents, fail, folder, largest_difference, mlx_gpt, stderr, stdout, succeed, trained};
use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::model::Gpt;
use mlx_gpt::model::linear::lora;
use mlx_gpt::model::parameters::Parameters;
use mlx_rs::Array;
use mlx_rs::ops::indexing::IndexOp;

/// `train --init-from run` with more options.
fn finetune(folder: &Path, options: &[&str]) -> Command {
    let mut command = mlx_gpt(folder);
    command
        .args([
            "train",
            "--init-from",
            "run",
            "--batch-size",
            "4",
            "--eval-batches",
            "1",
        ])
        .args(["--warmup", "1", "--device", "cpu", "--threads", "2", "--dropout", "0.1"])
        .args(options);
    command
}

const LORA: [&str; 6] = [
    "--lora-rank",
    "3",
    "--lora-alpha",
    "6",
    "--lora-targets",
    "c_attn,mlp.c_proj",
];

fn numbers<'a>(parameters: &'a Parameters, name: &str) -> &'a [f32] {
    parameters.get(name).unwrap().try_as_slice().unwrap()
}

#[test]
fn frozen_parameters_keep_every_byte() {
    let folder = folder();
    let run = trained(folder.path(), "2");
    let before = Checkpoint::load(&run.join("latest")).unwrap().parameters;
    let said = stderr(&succeed(&mut finetune(
        folder.path(),
        &[
            "--freeze", "w?e.*", "--freeze", "h.0.*", "--steps", "3", "--out", "next",
        ],
    )));
    assert!(said.contains("trained  3.3 thousand of them (42.0 %)"), "{said}");
    let after = Checkpoint::load(&folder.path().join("next/latest")).unwrap().parameters;
    for name in before.names().iter() {
        let frozen = name.starts_with("wte.") || name.starts_with("wpe.") || name.starts_with("h.0.");
        assert_eq!(numbers(&before, name) == numbers(&after, name), frozen, "{name}");
    }
    // What does not learn has no moments.
    let moments = Array::load_safetensors(folder.path().join("next/latest/optimizer.safetensors")).unwrap();
    assert_eq!(
        moments.len(),
        2 * (12 + 2) - 4, // Muon's four matrices have one
        "those of the second block and the last layer norm"
    );
    assert!(
        moments
            .keys()
            .all(|name| !name.contains("wte") && !name.contains("h.0."))
    );
}

#[test]
fn adapters_learn_alone_and_are_saved_alone() {
    let folder = folder();
    let run = trained(folder.path(), "2");
    let base = contents(&run.join("latest"));
    let options = [&LORA[..], &["--steps", "6", "--lr", "0.05", "--out", "tuned"]].concat();
    let said = stderr(&succeed(&mut finetune(folder.path(), &options)));
    assert!(
        said.contains("trained ") && said.contains("the others are frozen"),
        "{said}"
    );
    assert_eq!(contents(&run.join("latest")), base);

    let tuned = folder.path().join("tuned/latest");
    let names: Vec<String> = contents(&tuned).into_iter().map(|(name, _)| name).collect();
    assert!(
        names.contains(&"adapter_model.safetensors".into()) && !names.contains(&"model.safetensors".into()),
        "{names:?}"
    );
    // 3 × (16 + 48) and 3 × (64 + 16) numbers in each of two blocks.
    let adapters = Array::load_safetensors(tuned.join("adapter_model.safetensors")).unwrap();
    assert_eq!(
        adapters.values().map(Array::size).sum::<usize>(),
        2 * 3 * (16 + 48 + 64 + 16)
    );
    let names: Vec<&String> = adapters.keys().collect();
    assert!(
        names.contains(&&"base_model.model.transformer.h.1.mlp.c_proj.lora_A.weight".to_owned()),
        "peft's names: {names:?}"
    );

    // Every command takes the adapters and the model that they belong to for one.
    let checkpoint = Checkpoint::load(&tuned).unwrap();
    let original = Checkpoint::load(&run.join("latest")).unwrap();
    assert_eq!(
        checkpoint.parameters.count(),
        original.parameters.count() + 2 * 3 * (16 + 48 + 64 + 16)
    );
    let learned = numbers(&checkpoint.parameters, "h.0.attn.c_attn.lora_B.weight");
    assert!(learned.iter().any(|&x| x != 0.0), "B begins as zero");
    let model = ["--checkpoint", "tuned", "--device", "cpu"];
    succeed(
        mlx_gpt(folder.path())
            .arg("generate")
            .args(model)
            .args(["--max-new-tokens", "3"]),
    );
    let healthy = stdout(&succeed(mlx_gpt(folder.path()).args([
        "doctor",
        "--checkpoint",
        "tuned",
    ])));
    assert!(healthy.contains("7 files as they were written"), "{healthy}");
}

/// `x (W + scale Aᵀ Bᵀ)` is `x W + scale (x Aᵀ) Bᵀ`.
#[test]
fn merged_adapters_are_the_same_function() {
    let folder = folder();
    trained(folder.path(), "2");
    let options = [&LORA[..], &["--steps", "6", "--lr", "0.05", "--out", "tuned"]].concat();
    succeed(&mut finetune(folder.path(), &options));
    let checkpoint = Checkpoint::load(&folder.path().join("tuned/latest")).unwrap();
    let logits = |model, parameters: &Parameters| {
        let ids: Vec<u32> = (0..48).map(|id| id * 7 % 65).collect();
        let gpt = Gpt::new(model, parameters).unwrap();
        let logits = gpt.forward(&Array::from_slice(&ids, &[3, 16]), None).unwrap();
        logits.index(..).reshape(&[-1]).unwrap().to_vec_exact::<f32>().unwrap()
    };
    let apart = logits(&checkpoint.model, &checkpoint.parameters);
    let (model, parameters) = lora::merge(&checkpoint.model, &checkpoint.parameters).unwrap();
    assert_eq!(model.lora, None);
    let together = logits(&model, &parameters);
    let largest = apart.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    // Another order of a few sums of 16 to 64 products: some units in the last place of the largest logit.
    let off = largest_difference(&apart, &together);
    assert!(
        off <= 2e-6 * largest.max(1.0),
        "off by {off:e}, the largest logit is {largest}"
    );
    let original = Checkpoint::load(&folder.path().join("run/latest")).unwrap();
    let off = largest_difference(&apart, &logits(&original.model, &original.parameters));
    assert!(off > 1e-3, "the adapters do something: {off:e}");

    // Trained further without adapters, it begins as the merged model.
    let further = [
        "--init-from",
        "tuned",
        "--steps",
        "1",
        "--lr",
        "0",
        "--min-lr",
        "0",
        "--muon-lr",
        "0",
        "--out",
        "merged",
    ];
    succeed(
        mlx_gpt(folder.path())
            .arg("train")
            .args(further)
            .args(["--device", "cpu", "--eval-batches", "1"]),
    );
    let merged = Checkpoint::load(&folder.path().join("merged/latest")).unwrap();
    for name in parameters.names().iter() {
        assert_eq!(numbers(&merged.parameters, name), numbers(&parameters, name), "{name}");
    }
}

#[test]
fn adapters_and_frozen_parameters_resume_to_the_bit() {
    let folder = folder();
    trained(folder.path(), "2");
    for (name, options) in [("lora", &LORA[..]), ("freeze", &["--freeze", "h.*.attn.*"])] {
        let train = |out: &str, steps: &str| {
            let options = [
                options,
                &["--steps", steps, "--lr", "0.02", "--min-lr", "0.02", "--out", out],
            ]
            .concat();
            succeed(&mut finetune(folder.path(), &options));
        };
        let (whole, parts) = (format!("{name}-whole"), format!("{name}-parts"));
        train(&whole, "6");
        train(&parts, "3");
        succeed(mlx_gpt(folder.path()).args(["train", "--resume", &parts, "--steps", "6"]));
        let files = |run: &str| {
            let mut files = contents(&folder.path().join(run).join("step-000006"));
            files.retain(|(name, _)| name.ends_with(".safetensors"));
            files
        };
        assert_eq!(files(&whole).len(), 2);
        let bounds = Bounds::new("float32", 0.02, 6.0);
        assert!(same_tensors(&files(&whole), &files(&parts), bounds), "{name}");
    }
}

#[test]
fn finetuning_that_cannot_be() {
    let folder = folder();
    let run = trained(folder.path(), "1");
    let out = ["--steps", "1", "--out", "next"];
    for (options, expected) in [
        (&["--freeze", "h.7.*"][..], "freeze h.7.* matches no parameter"),
        (&["--freeze", "["], "freeze [ is not a pattern"),
        (&["--freeze", "*"], "freezes all parameters"),
        (
            &["--freeze", "wte.*", "--lora-rank", "2"],
            "freeze has no effect with lora-rank",
        ),
        (
            &["--lora-rank", "2", "--lora-targets", "wte"],
            "lora-targets \"wte\" is the name of no linear layer",
        ),
        (&["--lora-rank", "2", "--lora-alpha", "-1"], "lora-alpha is -1"),
    ] {
        let said = fail(&mut finetune(folder.path(), &[options, &out].concat()));
        assert!(said.contains(expected), "{said}");
    }
    let said = fail(mlx_gpt(folder.path()).args(["train", "--lora-rank", "2", "--device", "cpu"]));
    assert!(
        said.contains("lora-rank 2 needs a model to adapt; give one with --init-from"),
        "{said}"
    );
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left behind"
    );

    let options = [&LORA[..], &["--steps", "1", "--out", "tuned"]].concat();
    succeed(&mut finetune(folder.path(), &options));
    let mut twice = mlx_gpt(folder.path());
    twice.args(["train", "--init-from", "tuned", "--lora-rank", "2", "--device", "cpu"]);
    let said = fail(twice.args(["--steps", "1"]));
    assert!(said.contains("has adapters itself"), "{said}");
    let said = fail(mlx_gpt(folder.path()).args(["train", "--resume", "tuned", "--lora-alpha", "7"]));
    assert!(said.contains("lora-alpha 7.0 cannot change on resume"), "{said}");
    let said = fail(mlx_gpt(folder.path()).args(["train", "--resume", "run", "--freeze", "wte.*", "--steps", "2"]));
    assert!(said.contains("freeze [\"wte.*\"] cannot change on resume"), "{said}");
    let said = fail(&mut finetune(folder.path(), &["--tokenizer", "gpt2", "--steps", "1"]));
    assert!(said.contains("omit --tokenizer"), "{said}");
    let said = fail(&mut finetune(folder.path(), &["--lora-rank", "17", "--steps", "1"]));
    assert!(
        said.contains("lora-rank 17 is not from 1 to the model's embedding dimension of 16"),
        "{said}"
    );

    // Adapters of other weights are refused where it matters: the base is another one, or gone.
    let model = run.join("step-000001/model.safetensors");
    let mut bytes = fs::read(&model).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&model, bytes).unwrap();
    let said = fail(mlx_gpt(folder.path()).args(["train", "--resume", "tuned", "--steps", "2"]));
    assert!(
        said.contains("are not those that the adapters in tuned/step-000001 were trained on"),
        "{said}"
    );
    let said = fail(mlx_gpt(folder.path()).args(["generate", "--checkpoint", "tuned", "--device", "cpu"]));
    assert!(said.contains("are not those that the adapters"), "{said}");
    fs::remove_dir_all(&run).unwrap();
    fs::remove_dir_all(folder.path().join("tuned/base")).unwrap();
    let said = fail(mlx_gpt(folder.path()).args(["generate", "--checkpoint", "tuned", "--device", "cpu"]));
    assert!(said.contains("; put its folder"), "{said}");
}

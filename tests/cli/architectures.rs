//! The networks on the way to GPT-2: they train, are saved as what they are, and speak as they were trained.

use std::fs;

use crate::common::{assert_usable, fail, folder, mlx_gpt, succeed, train_tiny};
use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::model::Model;
use mlx_gpt::model::kv_cache::KvCache;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};

/// Options that make [`TINY`](crate::common::TINY) one of an architecture.
const ARCHITECTURES: [(&str, [&str; 3]); 3] = [
    ("bigram", ["1", "1", "1"]),
    ("averaging", ["1", "1", "16"]),
    ("attention", ["1", "2", "16"]),
];

fn train(folder: &std::path::Path, arch: &str, [layers, heads, embd]: [&str; 3], out: &str) {
    let mut command = mlx_gpt(folder);
    let sizes = ["--layers", layers, "--heads", heads, "--embd", embd];
    let small = [
        "--context",
        "16",
        "--batch-size",
        "4",
        "--eval-batches",
        "2",
        "--device",
        "cpu",
    ];
    command
        .args(["train", "--arch", arch, "--steps", "6", "--out", out])
        .args(sizes)
        .args(small);
    succeed(&mut command);
}

/// Six tokens at once, and in pieces with a cache: the same logits, up to the order of sums.
#[test]
fn cached_equals_uncached() {
    let folder = folder();
    for (arch, sizes) in ARCHITECTURES {
        train(folder.path(), arch, sizes, arch);
        let checkpoint = Checkpoint::load(&folder.path().join(arch).join("latest")).unwrap();
        let model = Model::new(&checkpoint.model, &checkpoint.parameters).unwrap();
        let ids = Array::from_slice(&[5u32, 9, 1, 1, 30, 2], &[1, 6]);
        let whole = model.forward(&ids, None).unwrap();
        let mut cache = KvCache::new(&checkpoint.model, 1, Dtype::Float32).unwrap();
        for piece in [0..3, 3..4, 4..6] {
            let last = piece.end - 1;
            let logits = model
                .forward_cached(&ids.try_index((.., piece)).unwrap(), &mut cache)
                .unwrap();
            let difference = logits.subtract(whole.try_index((.., last)).unwrap()).unwrap();
            let largest: f32 = difference.abs().unwrap().max(None).unwrap().try_item_exact().unwrap();
            assert!(largest < 1e-6, "{arch}, token {last}: {largest}");
        }
        assert_eq!(cache.len(), 6);
    }
}

/// A checkpoint says what it is, so that no other program takes it for a GPT-2, and everything here takes it.
#[test]
fn checkpoints_say_what_they_are() {
    let folder = folder();
    for (arch, sizes) in ARCHITECTURES {
        train(folder.path(), arch, sizes, arch);
        let config = fs::read_to_string(folder.path().join(arch).join("latest/config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["model_type"], format!("mlx_gpt_{arch}"));
        assert_usable(folder.path(), arch, "8");
        for format in ["hf", "mlx", "gguf"] {
            let mut export = mlx_gpt(folder.path());
            let error = fail(export.args(["export", "--format", format, "--out", "out", "--checkpoint", arch]));
            assert!(error.contains(arch) && error.contains("only gpt2"), "{error}");
        }
    }
}

#[test]
fn what_an_architecture_has_not_is_refused() {
    let folder = folder();
    // TINY has two layers.
    let error = fail(&mut train_tiny(folder.path(), &["--arch", "attention", "--out", "run"]));
    assert!(
        error.contains("layers is 2") && error.contains("attention has 1"),
        "{error}"
    );
    assert!(!folder.path().join("run").exists());
    train(folder.path(), "attention", ["1", "2", "16"], "attention");
    let lora = ["train", "--init-from", "attention", "--lora-rank", "2", "--out", "lora"];
    let error = fail(mlx_gpt(folder.path()).args(lora));
    assert!(error.contains("only gpt2 has low-rank adapters"), "{error}");
    let other = [
        "train",
        "--init-from",
        "attention",
        "--arch",
        "bigram",
        "--out",
        "other",
    ];
    let error = fail(mlx_gpt(folder.path()).args(other));
    assert!(error.contains("leave it out"), "{error}");
}

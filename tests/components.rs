//! Transformers of other components than GPT-2's, against PyTorch's numbers from `scripts/components_fixtures.py`, and as users
//! train them.

mod common;

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use clap::ValueEnum;
use common::{assert_usable, fail, folder, largest_difference, mlx_gpt, succeed, train_tiny};
use mlx_gpt::checkpoint::Checkpoint;
use mlx_gpt::config::{
    Activation, Architecture, BosEos, Components, ModelConfig, NormKind, Objective, Optimizer, Position, Precision,
    Preset, TrainConfig,
};
use mlx_gpt::data::batches::Batch;
use mlx_gpt::model::Model;
use mlx_gpt::model::init::layout;
use mlx_gpt::model::kv_cache::KvCache;
use mlx_gpt::model::parameters::{Names, Parameters};
use mlx_gpt::model::{mlp, ngrams};
use mlx_gpt::train::step::gradients::{LossAndGradFn, MicroBatch, StepBatch};
use mlx_gpt::train::step::workers::GradientWorkers;
use mlx_gpt::train::step::{Stepper, TrainState};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};

const ROWS: usize = 3;
const CONTEXT: usize = 12;

/// The n-gram table of a variant, small.
const TABLE: Components = Components {
    ngram_rows: 64,
    ngram_size: 3,
    ..Components::GPT2
};

fn variants() -> [(&'static str, Components); 9] {
    [
        (
            "rotary",
            Components {
                position: Position::Rotary,
                ..Components::GPT2
            },
        ),
        (
            "rms",
            Components {
                norm: NormKind::Rms,
                ..Components::GPT2
            },
        ),
        (
            "qk_norm",
            Components {
                qk_norm: true,
                ..Components::GPT2
            },
        ),
        (
            "relu2",
            Components {
                activation: Activation::Relu2,
                ..Components::GPT2
            },
        ),
        (
            "swiglu",
            Components {
                activation: Activation::Swiglu,
                tie_head: false,
                ..Components::GPT2
            },
        ),
        (
            "grouped",
            Components {
                kv_heads: Some(2),
                position: Position::Rotary,
                qk_norm: true,
                ..Components::GPT2
            },
        ),
        (
            "convolution",
            Components {
                convolution: 3,
                ..Components::GPT2
            },
        ),
        ("ngrams", TABLE),
        (
            "modern",
            Components {
                ngram_rows: TABLE.ngram_rows,
                ..Components::MODERN
            },
        ),
    ]
}

/// Each choice of a part is one of a variant that is compared with PyTorch. A new part or a new choice does not compile
/// here until it has one.
#[test]
fn every_choice_is_compared_with_pytorch() {
    let variants = variants();
    let parts_of = |variant: &str| variants.iter().find(|(name, _)| *name == variant).unwrap().1;
    for &choice in Position::value_variants() {
        let variant = match choice {
            Position::Learned => "rms",
            Position::Rotary => "rotary",
        };
        assert_eq!(parts_of(variant).position, choice);
    }
    for &choice in NormKind::value_variants() {
        let variant = match choice {
            NormKind::Layer => "rotary",
            NormKind::Rms => "rms",
        };
        assert_eq!(parts_of(variant).norm, choice);
    }
    for &choice in Activation::value_variants() {
        let variant = match choice {
            Activation::Gelu => "rotary",
            Activation::Relu2 => "relu2",
            Activation::Swiglu => "swiglu",
        };
        assert_eq!(parts_of(variant).activation, choice);
    }
    let Components {
        position: _,
        norm: _,
        activation: _,
        qk_norm,
        tie_head,
        kv_heads,
        convolution,
        ngram_rows,
        ngram_size,
    } = Components::GPT2;
    assert_ne!(parts_of("qk_norm").qk_norm, qk_norm);
    assert_ne!(parts_of("swiglu").tie_head, tie_head);
    assert_ne!(parts_of("grouped").kv_heads, kv_heads);
    assert_ne!(parts_of("convolution").convolution, convolution);
    assert_ne!(parts_of("ngrams").ngram_rows, ngram_rows);
    assert_ne!(parts_of("ngrams").ngram_size, ngram_size);
}

/// The functions themselves, far from zero too, where GELU, SiLU and their like differ most.
#[test]
fn activations_are_those_of_pytorch() {
    let stored = Stored::load();
    let x = &stored.0["activation/x"];
    for &activation in Activation::value_variants() {
        let (name, ours) = match activation {
            Activation::Gelu => ("gelu", mlp::gelu(x)),
            Activation::Relu2 => ("relu2", mlp::relu2(x)),
            Activation::Swiglu => ("swiglu", mlp::swiglu(x)),
        };
        let ours: Vec<f32> = ours.unwrap().reshape(&[-1]).unwrap().to_vec_exact().unwrap();
        for (ours, theirs) in ours.iter().zip(stored.numbers(&format!("activation/{name}"))) {
            let off = (ours - theirs).abs() / theirs.abs().max(1.0);
            assert!(off <= 1e-6, "{name}: {ours} where PyTorch has {theirs}");
        }
    }
}

struct Stored(HashMap<String, Array>);

impl Stored {
    fn load() -> Self {
        common::place::device().select().unwrap();
        Self(Array::load_safetensors(common::place::fixture("components.safetensors")).unwrap())
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        self.0[name].reshape(&[-1]).unwrap().to_vec_exact().unwrap()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let ids: Vec<i32> = self.0[name].reshape(&[-1]).unwrap().to_vec_exact().unwrap();
        ids.into_iter().map(|id| id as u32).collect()
    }

    fn model(&self, variant: &str, components: Components) -> (ModelConfig, Parameters) {
        let model = ModelConfig {
            architecture: Architecture::Modern,
            components,
            layers: 2,
            heads: 4,
            embd: 16,
            context: CONTEXT,
            vocab_size: 31,
            dropout: 0.0,
            lora: None,
            quantization: None,
            bos_eos: BosEos::default(),
        };
        model.validate().unwrap();
        let specs = layout(&model).into_iter();
        let entries = specs.map(|spec| {
            let array = &self.0[&format!("{variant}/{}", spec.name)];
            assert_eq!(array.shape(), spec.shape, "{variant}/{}", spec.name);
            (spec.name, array.as_dtype(Dtype::Float32).unwrap())
        });
        let parameters = Parameters::from_entries(entries.collect());
        let gradients = |name: &&String| name.starts_with(&format!("{variant}/grad."));
        assert_eq!(
            parameters.names().len(),
            self.0.keys().filter(gradients).count(),
            "{variant}"
        );
        (model, parameters)
    }
}

/// Numbers of PyTorch's are float32 themselves: 1e-5 leaves room for another order of summation, as in tests/parity.rs.
#[test]
fn logits_and_gradients_are_those_of_pytorch() {
    let stored = Stored::load();
    let batch = Batch {
        inputs: stored.ids("x"),
        targets: stored.ids("y"),
        rows: ROWS,
    };
    for (variant, components) in variants() {
        let (model, parameters) = stored.model(variant, components);
        let ids = Array::from_slice(&batch.inputs, &[ROWS as i32, CONTEXT as i32]);
        let logits = Model::new(&model, &parameters).unwrap().forward(&ids, None).unwrap();
        let logits: Vec<f32> = logits.reshape(&[-1]).unwrap().to_vec_exact().unwrap();
        let off = largest_difference(&logits, &stored.numbers(&format!("{variant}/logits")));
        assert!(off <= 1e-5, "{variant}: logits off by {off:e}");

        let loss_and_grad = LossAndGradFn {
            model,
            trainable_names: parameters.names().clone(),
            frozen_names: Names::default(),
            precision: Precision::Float32,
            recompute: false,
            batch_rows: ROWS,
            mean_rows: ROWS,
            micro_batches: 1,
            row_tokens: CONTEXT,
            objective: Objective::NextToken,
        };
        let micro_batch = MicroBatch {
            batch: batch.clone(),
            dropout_keys: vec![0; 14],
            ngram_rows: Vec::new(),
            objective: None,
        };
        let batch = Arc::new(StepBatch::new(vec![micro_batch]).unwrap());
        let mut workers = GradientWorkers::new(&loss_and_grad, 1).unwrap();
        let parts = workers.compute(parameters.arrays(), &[], &batch, 1.0).unwrap();
        let loss = parts[0].loss.item_exact::<f32>();
        let off = (loss - stored.numbers(&format!("{variant}/loss"))[0]).abs();
        assert!(off <= 2e-6, "{variant}: loss off by {off:e}");
        for (name, gradient) in parameters.names().iter().zip(&parts[0].gradients) {
            let theirs = stored.numbers(&format!("{variant}/grad.{name}"));
            let ours: Vec<f32> = gradient.reshape(&[-1]).unwrap().to_vec_exact().unwrap();
            let largest = theirs.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
            let off = largest_difference(&ours, &theirs);
            assert!(
                off <= 1e-5 * largest,
                "{variant}: gradient of {name} off by {off:e} of {largest:e}"
            );
        }
    }
}

/// The n-gram table after steps that read different rows of it, one of which decays it: PyTorch's AdamW, with the rows that a
/// step does not touch put back. Each step divides by the root of a second moment, which magnifies rounding.
#[test]
fn a_table_trains_row_by_row_as_in_pytorch() {
    const STEPS: u64 = 33;
    let stored = Stored::load();
    let (model, parameters) = stored.model("ngrams", TABLE);
    let (table, rest) = parameters.partition(|name, _| name == ngrams::TABLE);
    for (threads, grad_accum) in [(1, 1), (2, 1), (1, 3)] {
        let config = TrainConfig {
            batch_size: 1,
            grad_accum,
            context: CONTEXT,
            optimizer: Optimizer::Adamw,
            // 0.01 for the table.
            lr: 0.01 / 16.0,
            min_lr: 0.01 / 16.0,
            warmup: 0,
            beta2: 0.95,
            grad_clip: 0.0,
            ngram_decay: 1.5,
            threads,
            ..Preset::Nano.train_config(common::place::device())
        };
        // As many tokens of a text per token of a step, so that the table decays as much.
        let stepper = Stepper::new(&config, &model, &table, &rest).unwrap();
        let mut stepper = stepper.with_training_tokens(Some(1000 * grad_accum));
        let mut state = TrainState::new(table.clone(), rest.clone(), config.optimizer).unwrap();
        for step in 0..STEPS as usize {
            let row = step % ROWS * CONTEXT..(step % ROWS + 1) * CONTEXT;
            let micro_batch = MicroBatch {
                batch: Batch {
                    inputs: stored.ids("x")[row.clone()].to_vec(),
                    targets: stored.ids("y")[row].to_vec(),
                    rows: 1,
                },
                dropout_keys: vec![0; 14],
                ngram_rows: Vec::new(),
                objective: None,
            };
            stepper.step(&mut state, vec![micro_batch; grad_accum]).unwrap();
        }
        for (name, part) in [("after", &state.parameters), ("m", &state.m), ("v", &state.v)] {
            let ours: Vec<f32> = part.arrays()[0].reshape(&[-1]).unwrap().to_vec_exact().unwrap();
            let off = largest_difference(&ours, &stored.numbers(&format!("table/{name}")));
            assert!(
                off <= 2e-6,
                "{threads} threads, {grad_accum} micro-batches: {name} off by {off:e}"
            );
        }
    }
}

/// Rows that are found on the host, and rows that the model finds by itself: the same logits.
#[test]
fn rows_can_be_given() {
    let stored = Stored::load();
    let (model, parameters) = stored.model("ngrams", TABLE);
    let ids = stored.ids("x");
    let shape = [ROWS as i32, CONTEXT as i32];
    let whole = Model::new(&model, &parameters).unwrap();
    let rows: Vec<Array> = ngrams::rows_of(&TABLE, &ids, CONTEXT)
        .iter()
        .map(|rows| Array::from_slice(rows, &shape))
        .collect();
    let given = Model::new(&model, &parameters).unwrap().with_ngram_rows(&rows);
    let ids = Array::from_slice(&ids, &shape);
    let [whole, given] = [whole, given].map(|model| {
        let logits = model.forward(&ids, None).unwrap();
        logits.reshape(&[-1]).unwrap().to_vec_exact::<f32>().unwrap()
    });
    assert_eq!(whole, given);
}

/// All tokens at once, and in pieces with a cache; rotary places must go on where the cache ends.
#[test]
fn cached_equals_uncached() {
    let stored = Stored::load();
    for (variant, components) in variants() {
        let (config, parameters) = stored.model(variant, components);
        let model = Model::new(&config, &parameters).unwrap();
        let ids = Array::from_slice(&stored.ids("x")[..CONTEXT], &[1, CONTEXT as i32]);
        let whole = model.forward(&ids, None).unwrap();
        let mut cache = KvCache::new(&config, 1, Dtype::Float32).unwrap();
        for piece in [0..5, 5..6, 6..7, 7..12] {
            let last = whole.try_index((.., piece.end - 1)).unwrap();
            let logits = model
                .forward_cached(&ids.try_index((.., piece)).unwrap(), &mut cache)
                .unwrap();
            let off = largest_difference(
                &logits.reshape(&[-1]).unwrap().to_vec_exact().unwrap(),
                &last.reshape(&[-1]).unwrap().to_vec_exact().unwrap(),
            );
            assert!(off <= 1e-5, "{variant}: off by {off:e}");
        }
    }
}

/// With dropout, attention takes the other path, where weights are seen: at next to no dropout both must agree.
#[test]
fn shared_keys_are_the_same_with_dropout() {
    use mlx_gpt::model::dropout::Dropout;
    let stored = Stored::load();
    let (_, components) = variants()[5];
    let (config, parameters) = stored.model("grouped", components);
    let model = Model::new(&config, &parameters).unwrap();
    let ids = Array::from_slice(&stored.ids("x"), &[ROWS as i32, CONTEXT as i32]);
    let keys = Array::from_slice(&(0..14u32).collect::<Vec<_>>(), &[7, 2]);
    let faint = Dropout::new(1e-9, keys, ROWS as i32, 0);
    let with: Vec<f32> = model
        .forward(&ids, Some(&faint))
        .unwrap()
        .reshape(&[-1])
        .unwrap()
        .to_vec_exact()
        .unwrap();
    let off = largest_difference(&with, &stored.numbers("grouped/logits"));
    assert!(off <= 1e-5, "off by {off:e}");
}

/// Each choice from a configuration file: trained, saved as what it is, resumed, sampled, measured, continued; not exported.
#[test]
fn choices_train_and_are_kept() {
    let folder = folder();
    let choices = [
        ("modern", "arch = \"modern\""),
        ("rotary", "position = \"rotary\""),
        ("convolution", "convolution = 4"),
        ("ngrams", "ngram_rows = 256\nngram_size = 4\nngram_decay = 2.0"),
        ("no table", "arch = \"modern\"\nngram_rows = 0"),
        ("grouped", "kv_heads = 1"),
        ("swiglu", "activation = \"swiglu\"\nnorm = \"rms\""),
        ("head", "tie_head = false\nqk_norm = true"),
    ];
    for (name, settings) in choices {
        fs::write(folder.path().join("components.toml"), settings).unwrap();
        let options = ["--config", "components.toml", "--out", name, "--steps", "4"];
        succeed(&mut train_tiny(folder.path(), &options));
        let latest = folder.path().join(name).join("latest");
        let config = fs::read_to_string(latest.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["model_type"], "mlx_gpt_modern");
        let model = Checkpoint::load(&latest).unwrap().model;
        assert_eq!(model.components == Components::MODERN, name == "modern");
        assert_eq!(model.components.tie_head, name != "head");
        assert_usable(folder.path(), name, "6");
        let error =
            fail(mlx_gpt(folder.path()).args(["export", "--format", "hf", "--out", "out", "--checkpoint", name]));
        assert!(error.contains("modern") && error.contains("only gpt2"), "{error}");
    }
    let config = folder.path().join("modern/config.toml");
    let changed = fs::read_to_string(&config)
        .unwrap()
        .replace("norm = \"rms\"", "norm = \"layer\"");
    fs::write(&config, changed).unwrap();
    let error = fail(mlx_gpt(folder.path()).args(["train", "--resume", "modern"]));
    assert!(error.contains("norm \"layer\" cannot change on resume"), "{error}");
}

#[test]
fn impossible_choices_are_refused() {
    let folder = folder();
    for (settings, expected) in [
        (
            "heads = 4\nembd = 16\nkv_heads = 3",
            "kv-heads 3 does not divide heads 4",
        ),
        (
            "heads = 2\nembd = 6\nposition = \"rotary\"",
            "even number of channels per head",
        ),
        (
            "convolution = 1",
            "convolution is 1; it must be 0 for none, or from 2 to 16",
        ),
        (
            "ngram_rows = 1000",
            "ngram_rows is 1000; it must be 0 for no table, or a power of two",
        ),
        ("ngram_rows = 64", "ngram_size is 0; it must be from 2 to 8"),
        (
            "arch = \"modern\"\nngram_size = 9",
            "ngram_size is 9; it must be from 2 to 8",
        ),
        (
            "arch = \"modern\"\nngram_decay = -1.0",
            "ngram_decay is -1; it must be a number, 0 or more",
        ),
        ("arch = \"bigram\"\nconvolution = 3", "leave --arch out"),
        ("arch = \"bigram\"\nnorm = \"rms\"", "leave --arch out"),
    ] {
        fs::write(folder.path().join("components.toml"), settings).unwrap();
        let mut command = mlx_gpt(folder.path());
        command.args([
            "train",
            "--out",
            "run",
            "--steps",
            "2",
            "--device",
            "cpu",
            "--config",
            "components.toml",
        ]);
        let error = fail(&mut command);
        assert!(error.contains(expected), "{error}");
        assert!(!folder.path().join("run").exists());
    }
}

//! Numbers that are not finite: the run stops or skips the step, and names the batch; float16 losses are scaled.

use std::path::Path;

use crate::common::learned::{Learned, learned};
use crate::common::{Fixture, fail, folder, mlx_gpt, stderr, succeed, train_tiny};
use clap::ValueEnum;
use mlx_gpt::checkpoint::{Checkpoint, LossScale};
use mlx_gpt::config::{OnNan, Optimizer, Precision, TrainConfig};
use mlx_gpt::data::batches::{Batch, row_starts, step_rng};
use mlx_gpt::model::parameters::Parameters;
use mlx_gpt::train::step::gradients::MicroBatch;
use mlx_gpt::train::step::{Stepper, TrainState};
use mlx_rs::Array;
use serde_json::Value;

const CONTEXT: usize = 16;
const ROWS: usize = 4;
const STEPS: u64 = 12;

/// Where a text of 1,000 characters has a `$`: in no row of an evaluation.
const PLACES: [usize; 5] = [60, 170, 280, 390, 520];

/// That text, and a model whose numbers are finite as long as it meets none: the embedding of
/// `$` is too large for a layer norm, and too small for the softmax over the vocabulary to see it.
fn poison(folder: &Path) {
    let mut text = "to be or not to be, that is the question; ".repeat(24);
    text.truncate(1000);
    for place in PLACES {
        text.replace_range(place..place + 1, "$");
    }
    std::fs::write(folder.join("text.txt"), text).unwrap();
    succeed(&mut train_tiny(
        folder,
        &[
            "--corpus",
            "text.txt",
            "--steps",
            "1",
            "--out",
            "base",
            "--dropout",
            "0",
        ],
    ));
    let mut checkpoint = Checkpoint::load(&folder.join("base/step-000001")).unwrap();
    let token = checkpoint.tokenizer.encode("$").unwrap()[0] as usize;
    let parameters = checkpoint.parameters.iter().map(|(name, array)| {
        let mut numbers = array.to_vec_exact::<f32>().unwrap();
        match name {
            "wte.weight" => numbers[token * 16] = -1e30,
            // The channel that `$` is far down in is 10 everywhere, so that its logit is -1e31.
            "ln_f.weight" => numbers[0] = 0.0,
            "ln_f.bias" => numbers[0] = 10.0,
            _ => {}
        }
        (name.to_owned(), Array::from_slice(&numbers, array.shape()))
    });
    checkpoint.parameters = Parameters::from_entries(parameters.collect());
    std::fs::create_dir(folder.join("poisoned")).unwrap();
    checkpoint
        .write_model(&folder.join("poisoned"), Precision::Float32)
        .unwrap();
}

fn options<'a>(on_nan: &'a str, out: &'a str) -> Vec<&'a str> {
    let steps: &str = "12";
    vec![
        "--corpus",
        "text.txt",
        "--init-from",
        "poisoned",
        "--steps",
        steps,
        "--save-every",
        "4",
        "--eval-every",
        "100",
        "--lr",
        "1e-4",
        "--min-lr",
        "1e-4",
        "--warmup",
        "0",
        "--on-nan",
        on_nan,
        "--out",
        out,
    ]
}

/// The steps, from 1, whose batch has a `$` in its inputs or targets, and their rows.
fn hit() -> Vec<(u64, Vec<usize>)> {
    let training_tokens = 900; // nine tenths of the text
    (0..STEPS)
        .map(|step| {
            (
                step + 1,
                row_starts(&mut step_rng(1337, step), ROWS, training_tokens, CONTEXT),
            )
        })
        .filter(|(_, rows)| {
            rows.iter()
                .any(|&start| PLACES.iter().any(|place| (start..=start + CONTEXT).contains(place)))
        })
        .collect()
}

fn named(run: &Path) -> Vec<(u64, Vec<usize>)> {
    let lines = learned_metrics(run)
        .into_iter()
        .filter(|line| line.get("not_finite").is_some());
    lines
        .map(|line| {
            assert_eq!(line["seed"], 1337);
            let rows = line["rows"].as_array().unwrap();
            (
                line["step"].as_u64().unwrap(),
                rows.iter().map(|row| row.as_u64().unwrap() as usize).collect(),
            )
        })
        .collect()
}

fn learned_metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn steps_that_are_not_finite_are_skipped_counted_and_named() {
    let folder = folder();
    poison(folder.path());
    let hit = hit();
    assert!(
        !hit.is_empty() && hit.len() < STEPS as usize && hit[0].0 > 1,
        "a test of both kinds of steps: {hit:?}"
    );

    let said = stderr(&succeed(&mut train_tiny(folder.path(), &options("skip", "skipping"))));
    let run = folder.path().join("skipping");
    assert_eq!(named(&run), hit, "{said}");
    assert!(said.contains(&format!("skipped  {} step(s)", hit.len())), "{said}");
    let state: Value = serde_json::from_slice(&std::fs::read(run.join("latest/state.json")).unwrap()).unwrap();
    assert_eq!(
        (state["step"].as_u64(), state["skipped"].as_u64()),
        (Some(STEPS), Some(hit.len() as u64))
    );

    // Resumed in the middle, it skips the same steps.
    let whole = learned(&run);
    for step in ["step-000008", "step-000012"] {
        std::fs::remove_dir_all(run.join(step)).unwrap();
    }
    succeed(mlx_gpt(folder.path()).args(["train", "--resume", "skipping"]));
    assert!(learned(&run) == whole);

    // Stopping names the first of them, and changes nothing.
    let said = fail(&mut train_tiny(folder.path(), &options("stop", "stopping")));
    assert!(
        said.contains(&format!("step {}: loss", hit[0].0)) && said.contains("--on-nan skip"),
        "{said}"
    );
    assert_eq!(named(&folder.path().join("stopping")), hit[..1]);
}

/// A scale that gradients overflow at is halved until they do not, within one step, which then is the step that began
/// with that scale; powers of two change no digit.
#[test]
fn a_float16_step_is_tried_again_with_a_smaller_loss() {
    let fixture = Fixture::load();
    let config = TrainConfig {
        dtype: Precision::Float16,
        ..fixture.recipe(1, 1)
    };
    let mut stepper = Stepper::new(&config, &fixture.model, &fixture.parameters, &Parameters::default()).unwrap();
    let mut step = |scale: f32| {
        let mut state = TrainState::new(fixture.parameters.clone(), Parameters::default(), Optimizer::Adamw).unwrap();
        state.loss_scale = Some(LossScale { scale, finite_steps: 7 });
        let batch = MicroBatch {
            batch: fixture.batch.clone(),
            dropout_keys: vec![0; 20],
            ngram_rows: Vec::new(),
            objective: None,
        };
        let report = stepper.step(&mut state, vec![batch]).unwrap();
        assert!(!report.found_inf && state.step == 1 && state.skipped == 0);
        let numbers: Vec<f32> = state
            .parameters
            .iter()
            .flat_map(|(_, array)| array.to_vec_exact::<f32>().unwrap())
            .collect();
        (state.loss_scale.unwrap(), numbers)
    };
    let (found, tried) = step(2f32.powi(40));
    assert!((1024.0..2f32.powi(40)).contains(&found.scale), "{found:?}");
    assert_eq!(found.finite_steps, 1, "counted anew");
    let (kept, direct) = step(found.scale);
    assert_eq!((kept.scale, kept.finite_steps), (found.scale, 8));
    assert!(tried == direct, "the same to the bit");
}

/// A batch as so many micro-batches.
fn halves(whole: MicroBatch, parts: usize) -> Vec<MicroBatch> {
    let tokens = whole.batch.inputs.len() / parts;
    let pieces = whole
        .batch
        .inputs
        .chunks(tokens)
        .zip(whole.batch.targets.chunks(tokens));
    let part = |(inputs, targets): (&[u32], &[u32])| MicroBatch {
        batch: Batch {
            inputs: inputs.to_vec(),
            targets: targets.to_vec(),
            rows: whole.batch.rows / parts,
        },
        dropout_keys: whole.dropout_keys.clone(),
        ngram_rows: Vec::new(),
        objective: None,
    };
    pieces.map(part).collect()
}

/// No bit of a parameter or a moment changes, not-a-numbers included.
#[test]
fn a_skipped_step_changes_nothing() {
    let fixture = Fixture::load();
    let bits = |parameters: &Parameters| -> Vec<u32> {
        let numbers = parameters
            .arrays()
            .iter()
            .map(|array| array.to_vec_exact::<f32>().unwrap());
        numbers.flatten().map(f32::to_bits).collect()
    };
    let entries = fixture.parameters.iter().map(|(name, array)| {
        let mut numbers = array.to_vec_exact::<f32>().unwrap();
        if name == "wpe.weight" {
            numbers[0] = f32::NAN;
        }
        (name.to_string(), Array::from_slice(&numbers, array.shape()))
    });
    let poisoned = Parameters::from_entries(entries.collect());
    // With one thread, the whole step is one function; with accumulation, the gradients and the update are one each.
    let ways = [(1, 1), (1, 2), (2, 1)];
    let optimizers = Optimizer::value_variants();
    let all = optimizers
        .iter()
        .flat_map(|&optimizer| ways.map(|way| (optimizer, way)));
    for (optimizer, (threads, grad_accum)) in all {
        let config = TrainConfig {
            optimizer,
            on_nan: OnNan::Skip,
            ..fixture.recipe(threads, grad_accum)
        };
        let mut stepper = Stepper::new(&config, &fixture.model, &poisoned, &Parameters::default()).unwrap();
        let mut state = TrainState::new(poisoned.clone(), Parameters::default(), optimizer).unwrap();
        let batch = MicroBatch {
            batch: fixture.batch.clone(),
            dropout_keys: vec![0; 20],
            ngram_rows: Vec::new(),
            objective: None,
        };
        let report = stepper.step(&mut state, halves(batch, grad_accum)).unwrap();
        assert!(report.found_inf && state.skipped == 1);
        assert!(bits(&state.parameters) == bits(&poisoned), "{optimizer:?}");
        for moments in [&state.m, &state.v] {
            assert!(bits(moments).iter().all(|&bits| bits == 0), "{optimizer:?}");
        }
    }
}

/// What a GPU's tests hold resumed runs to: sums in another order are within it, a batch or a moment that differs is not.
#[test]
fn runs_that_add_up_in_another_order_are_close_and_others_are_not() {
    let folder = folder();
    for (dtype, optimizer) in [
        ("float32", "adamw"),
        ("float32", "muon"),
        ("bfloat16", "adamw"),
        ("float16", "muon"),
    ] {
        let train = |out: &str, options: &[&str], kernels: &str| {
            let out = format!("{dtype}-{optimizer}-{out}");
            let options = [
                &[
                    "--steps",
                    "6",
                    "--dtype",
                    dtype,
                    "--optimizer",
                    optimizer,
                    "--out",
                    &out,
                ],
                options,
            ]
            .concat();
            succeed(train_tiny(folder.path(), &options).env("MLX_GPT_KERNELS", kernels));
            learned(&folder.path().join(out))
        };
        let one = train("one", &["--threads", "1"], "on");
        let other = train("other", &["--threads", "2"], "off");
        assert!(one.is_close(&other) && one.files != other.files, "{dtype} {optimizer}");
        assert!(
            !one.is_close(&train("seed", &["--seed", "2"], "on")),
            "{dtype} {optimizer}"
        );
        let mut moments = one.files.clone();
        let file = moments.iter_mut().find(|(name, _)| name == "optimizer.safetensors");
        let bytes = &mut file.unwrap().1;
        *bytes = scaled(folder.path(), bytes, 1.5);
        let wrong = Learned {
            files: moments,
            ..other
        };
        assert!(!one.is_close(&wrong), "{dtype} {optimizer}");
    }
}

/// Tensors of a file, multiplied.
fn scaled(folder: &Path, bytes: &[u8], factor: f32) -> Vec<u8> {
    let path = folder.join("read.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let tensors = Array::load_safetensors(&path).unwrap();
    let scaled: Vec<(String, Array)> = tensors
        .into_iter()
        .map(|(name, array)| (name, array.multiply(Array::from_f32(factor)).unwrap()))
        .collect();
    let scaled = scaled.iter().map(|(name, array)| (name.as_str(), array));
    // Not onto the file that it is read from meanwhile.
    let to = folder.join("scaled.safetensors");
    Array::save_safetensors(scaled, None, &to).unwrap();
    std::fs::read(&to).unwrap()
}

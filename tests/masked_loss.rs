//! Losses that leave targets out, against PyTorch's `cross_entropy(ignore_index)`, stored by `scripts/masked_loss_fixtures.py`.

mod common;

use std::sync::Arc;

use common::largest_difference;
use common::pytorch::Stored;
use mlx_gpt::config::{Device, Objective, Optimizer, Precision, Preset, TrainConfig};
use mlx_gpt::data::batches::{Batch, IGNORE_INDEX};
use mlx_gpt::evaluate::Evaluator;
use mlx_gpt::model::parameters::{Names, Parameters};
use mlx_gpt::train::step::gradients::{LossAndGradFn, MicroBatch, StepBatch};
use mlx_gpt::train::step::workers::GradientWorkers;
use mlx_gpt::train::step::{StepReport, Stepper, TrainState};

const ROWS: usize = 6;
const CONTEXT: usize = 10;
/// Micro-batches, threads.
const DIVISIONS: [(usize, usize); 6] = [(1, 1), (1, 2), (1, 3), (2, 2), (3, 1), (6, 1)];

const FIXTURE: &str = "masked-loss.safetensors";

/// The batch that PyTorch was given.
fn stored_batch(stored: &Stored) -> Batch {
    Batch {
        inputs: stored.ids("x"),
        targets: stored.ids("y"),
        rows: ROWS,
    }
}

fn micro_batches(batch: &Batch, parts: usize) -> Vec<MicroBatch> {
    let tokens = batch.inputs.len() / parts;
    let pairs = batch.inputs.chunks(tokens).zip(batch.targets.chunks(tokens));
    pairs
        .map(|(inputs, targets)| MicroBatch {
            batch: Batch {
                inputs: inputs.to_vec(),
                targets: targets.to_vec(),
                rows: ROWS / parts,
            },
            dropout_keys: vec![0; 14],
            ngram_rows: Vec::new(),
            objective: None,
        })
        .collect()
}

/// The mean is over the targets that count in the whole batch, whatever the parts hold. A mean of the parts' means would be
/// off by 1e-2 or more.
#[test]
fn loss_and_every_gradient_are_those_of_pytorch_however_the_batch_is_divided() {
    let stored = Stored::load(FIXTURE);
    let (model, parameters) = stored.model(CONTEXT);
    for (parts, threads) in DIVISIONS {
        let loss_and_grad = LossAndGradFn {
            model: model.clone(),
            trainable_names: parameters.names().clone(),
            frozen_names: Names::default(),
            precision: Precision::Float32,
            recompute: false,
            batch_rows: ROWS / parts,
            mean_rows: ROWS / parts,
            micro_batches: parts,
            row_tokens: CONTEXT,
            objective: Objective::NextToken,
        };
        let batch = Arc::new(StepBatch::new(micro_batches(&stored_batch(&stored), parts)).unwrap());
        let mut workers = GradientWorkers::new(&loss_and_grad, threads).unwrap();
        let computed = workers.compute(parameters.arrays(), &[], &batch, 1.0).unwrap();
        assert_eq!(computed.len(), threads);
        let loss: f32 = computed.iter().map(|part| part.loss.item_exact::<f32>()).sum();
        let expected = stored.numbers("loss")[0];
        assert!((loss - expected).abs() <= 1e-5 * expected, "{parts}, {threads}: {loss}");
        for (index, name) in parameters.names().iter().enumerate() {
            let theirs = stored.numbers(&format!("grad.{name}"));
            let mut ours = vec![0.0; theirs.len()];
            for part in &computed {
                let array = part.gradients[index].reshape(&[-1]).unwrap();
                let numbers: Vec<f32> = array.to_vec_exact().unwrap();
                ours.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
            }
            let largest = theirs.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
            let off = largest_difference(&ours, &theirs);
            assert!(
                off <= 1e-5 * largest,
                "{parts}, {threads}: {name} off by {off:e} of {largest:e}"
            );
        }
    }
}

/// A step of a model on `batch`, whose parameters stay as they are.
fn step(stored: &Stored, batch: &Batch, parts: usize, threads: usize, dtype: Precision) -> anyhow::Result<StepReport> {
    let (model, parameters) = stored.model(CONTEXT);
    let config = TrainConfig {
        layers: model.layers,
        heads: model.heads,
        embd: model.embd,
        context: model.context,
        batch_size: ROWS / parts,
        grad_accum: parts,
        threads,
        dtype,
        ..Preset::Nano.train_config(Device::Cpu)
    };
    let mut stepper = Stepper::new(&config, &model, &parameters, &Parameters::default())?;
    let mut state = TrainState::new(parameters, Parameters::default(), Optimizer::Adamw)?;
    stepper.step(&mut state, micro_batches(batch, parts))
}

#[test]
fn whole_steps_report_the_loss_of_pytorch() {
    let stored = Stored::load(FIXTURE);
    let expected = stored.numbers("loss")[0];
    // As one function, and in parts on two threads.
    for (parts, threads) in [(1, 1), (2, 2)] {
        let report = step(&stored, &stored_batch(&stored), parts, threads, Precision::Float32).unwrap();
        assert!((report.loss - expected).abs() <= 1e-5 * expected, "{report:?}");
    }
    // The format whose losses are scaled; it has three digits.
    let report = step(&stored, &stored_batch(&stored), 2, 2, Precision::Float16).unwrap();
    assert!(
        (report.loss - expected).abs() <= 0.01 && !report.found_inf,
        "{report:?}"
    );
}

#[test]
fn evaluation_counts_the_targets_that_are_there() {
    let stored = Stored::load(FIXTURE);
    let (model, parameters) = stored.model(CONTEXT);
    let batch = stored_batch(&stored);
    for threads in [1, 2] {
        let mut evaluator = Evaluator::new(&model, parameters.names(), threads).unwrap();
        let halves = || micro_batches(&batch, 2).into_iter().map(|part| part.batch);
        let losses = evaluator.losses(&parameters, halves()).unwrap().concat();
        assert!(largest_difference(&losses, &stored.numbers("losses")) <= 1e-5);
        let evaluation = evaluator.evaluate(&parameters, halves()).unwrap();
        assert_eq!(evaluation.tokens, batch.target_count());
        assert!((evaluation.loss() - f64::from(stored.numbers("loss")[0])).abs() <= 1e-5);
    }
}

#[test]
fn a_batch_without_a_target_is_an_error_of_one_line() {
    let stored = Stored::load(FIXTURE);
    let batch = Batch {
        targets: vec![IGNORE_INDEX; ROWS * CONTEXT],
        ..stored_batch(&stored)
    };
    for (parts, threads) in [(1, 1), (3, 2)] {
        let error = step(&stored, &batch, parts, threads, Precision::Float32).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with("all 60 targets of a step are ignored"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}

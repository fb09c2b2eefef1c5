//! Gradients of a batch, computed as in training.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use mlx_rs::Array;
use mlx_rs::error::Result as MlxResult;
use mlx_rs::transforms::value_and_grad_with_argnums;

use super::arrays::{larger, largest_difference};
use crate::config::{ModelConfig, Objective, Precision};
use crate::data::batches::Batch;
use crate::model::Parameters;
use crate::model::dropout::Dropout;
use crate::model::parameters::Names;
use crate::train::step::arrays::Gradients;
use crate::train::step::gradients::{LossAndGradFn, MicroBatch, StepBatch};
use crate::train::step::workers::GradientWorkers;

/// Loss and gradients of a batch without dropout, in `parts` micro-batches of equal size.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn gradients(model: &ModelConfig, parameters: &Parameters, batch: &Batch, parts: usize) -> Result<Gradients> {
    let spec = LossAndGradFn {
        model: model.clone(),
        trainable_names: Arc::clone(parameters.names()),
        frozen_names: Names::default(),
        precision: Precision::Float32,
        recompute: false,
        batch_rows: batch.rows / parts,
        mean_rows: batch.rows / parts,
        micro_batches: parts,
        row_tokens: batch.context(),
        objective: Objective::NextToken,
    };
    let parts = Arc::new(StepBatch::new(in_parts(model, batch, parts))?);
    let computed = GradientWorkers::new(&spec, 1)?.compute(parameters.arrays(), &[], &parts, 1.0)?;
    computed.into_iter().next().context("no worker computed gradients")
}

/// The gradient of `loss` by each of the arrays that it depends on, by their names, in the arrays' shapes.
///
/// # Errors
/// Those of `loss`.
pub fn gradients_by_name(
    weights: &BTreeMap<String, Array>,
    loss: impl Fn(&BTreeMap<String, Array>) -> MlxResult<Array>,
) -> MlxResult<BTreeMap<String, Array>> {
    let named = |arrays: &[Array]| weights.keys().cloned().zip(arrays.iter().cloned()).collect();
    let every: Vec<i32> = (0..weights.len() as i32).collect();
    let arrays: Vec<Array> = weights.values().cloned().collect();
    let loss = |arrays: &[Array]| -> MlxResult<Vec<Array>> { Ok(vec![loss(&named(arrays))?]) };
    let (_, gradients) = value_and_grad_with_argnums(loss, every.as_slice())(&arrays)?;
    Ok(named(&gradients))
}

/// The norm of the gradients whose names begin with `prefix`, in float64: squares of gradients that have all but vanished are too
/// small for float32.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn norm(gradients: &BTreeMap<String, Array>, prefix: &str) -> Result<f64> {
    let mut squares = 0.0;
    for (_, gradient) in gradients.iter().filter(|(name, _)| name.starts_with(prefix)) {
        let numbers: Vec<f32> = gradient.flatten(None, None)?.to_vec_exact()?;
        squares += numbers.into_iter().map(|number| f64::from(number).powi(2)).sum::<f64>();
    }
    Ok(squares.sqrt())
}

/// A batch as micro-batches, with unused dropout keys.
pub fn in_parts(model: &ModelConfig, batch: &Batch, parts: usize) -> Vec<MicroBatch> {
    let numbers = batch.inputs.len() / parts;
    let halves = batch.inputs.chunks(numbers).zip(batch.targets.chunks(numbers));
    let part = |(inputs, targets): (&[u32], &[u32])| MicroBatch {
        batch: Batch {
            inputs: inputs.to_vec(),
            targets: targets.to_vec(),
            rows: batch.rows / parts,
        },
        dropout_keys: vec![0; 2 * Dropout::sites(model.layers)],
        ngram_rows: Vec::new(),
        objective: None,
    };
    halves.map(part).collect()
}

/// The largest difference between two lists of arrays of equal shapes, relative to each array's largest magnitude.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn largest_relative_difference(a: &[Array], b: &[Array]) -> Result<f32> {
    let mut largest = 0.0_f32;
    for (a, b) in a.iter().zip(b) {
        let scale: f32 = b.abs()?.max(None)?.try_item_exact()?;
        largest = larger(largest, largest_difference(a, b)? / scale.max(f32::MIN_POSITIVE));
    }
    Ok(largest)
}

//! Gradients of a batch, computed as in training.

use std::sync::Arc;

use anyhow::{Context, Result};
use mlx_rs::Array;

use crate::config::{ModelConfig, Precision};
use crate::data::batches::Batch;
use crate::model::Parameters;
use crate::model::dropout::Dropout;
use crate::model::parameters::Names;
use crate::train::step::arrays::Gradients;
use crate::train::step::gradients::{GradientSpec, MicroBatch};
use crate::train::step::workers::GradientWorkers;

/// Loss and gradients of a batch without dropout, in `parts` micro-batches of equal size.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn gradients(model: &ModelConfig, parameters: &Parameters, batch: &Batch, parts: usize) -> Result<Gradients> {
    let spec = GradientSpec {
        model: model.clone(),
        names: Arc::clone(parameters.names()),
        frozen: Names::default(),
        precision: Precision::Float32,
        recompute: false,
        batch_rows: batch.rows / parts,
        micro_batches: parts,
        row_tokens: batch.context(),
    };
    let parts = Arc::new(in_parts(model, batch, parts));
    let computed = GradientWorkers::new(&spec, 1)?.compute(parameters.arrays(), &[], &parts, 1.0)?;
    computed.into_iter().next().context("no worker computed gradients")
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
        largest = largest.max(super::arrays::largest_difference(a, b)? / scale.max(f32::MIN_POSITIVE));
    }
    Ok(largest)
}

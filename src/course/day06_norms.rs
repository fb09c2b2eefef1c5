//! Layer norm and batch norm by example.

use std::fmt::Write;

use anyhow::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops, random};

use crate::lessons::arrays::{largest_difference, table};
use crate::lessons::workspace::Workspace;
use crate::model::norm::{EPSILON, LayerNorm};
use crate::model::parameters::Parameters;

/// Four vectors of six channels, `[4, 6]`: the n-th has mean n and n times the standard deviation.
fn uneven(workspace: &Workspace) -> Result<Array> {
    let numbers = random::normal::<f32>(&[4, 6], None, None, &random::key(workspace.seed())?)?;
    let size = ops::arange::<_, f32>(1.0, 5.0, None)?.expand_dims(-1)?; // [4, 1]
    Ok(numbers.multiply(&size)?.add(&size)?)
}

/// The library's untrained layer norm: gain one, bias zero.
fn layer_norm(x: &Array) -> Result<Array> {
    let c = x.dim(-1);
    let entries = vec![
        ("ln.weight".into(), Array::ones::<f32>(&[c])?),
        ("ln.bias".into(), Array::zeros::<f32>(&[c])?),
    ];
    Ok(LayerNorm::new(&Parameters::from_entries(entries).under("ln"))?.forward(x)?)
}

// ANCHOR: normalise
/// Subtracts the mean and divides by the standard deviation, over `axis`.
fn normalise(x: &Array, axis: i32) -> Result<Array> {
    let mean = x.mean_axis(axis, true)?;
    let variance = x.var_axis(axis, true, None)?;
    let deviation = variance.add(Array::from_f32(EPSILON))?.sqrt()?;
    Ok(x.subtract(mean)?.divide(deviation)?)
}

/// Layer norm: each vector over its own channels, x `[rows, C]`.
fn layer_norm_by_hand(x: &Array) -> Result<Array> {
    normalise(x, 1)
}

/// Batch norm: each channel over all vectors of the batch, x `[rows, C]`.
fn batch_norm(x: &Array) -> Result<Array> {
    normalise(x, 0)
}
// ANCHOR_END: normalise

/// Difference of layer norm by hand from the library's.
pub fn by_hand_from_library(workspace: &Workspace) -> Result<f32> {
    let x = uneven(workspace)?;
    largest_difference(&layer_norm_by_hand(&x)?, &layer_norm(&x)?)
}

/// Largest deviation of the normalised vectors' means from zero, and of their variances from one.
pub fn mean_and_variance(workspace: &Workspace) -> Result<(f32, f32)> {
    let normed = layer_norm(&uneven(workspace)?)?;
    Ok((
        largest_difference(&normed.mean_axis(-1, false)?, &Array::from_f32(0.0))?,
        largest_difference(&normed.var_axis(-1, false, None)?, &Array::from_f32(1.0))?,
    ))
}

/// Change of the first vector, with layer norm and with batch norm, when the last vector of the batch changes.
pub fn change_of_another(workspace: &Workspace) -> Result<(f32, f32)> {
    let x = uneven(workspace)?;
    let other = ops::concatenate(&[x.try_index(..3)?, x.try_index(3..)?.negative()?], 0)?;
    let moved = |norm: fn(&Array) -> Result<Array>| -> Result<f32> {
        largest_difference(&norm(&x)?.try_index(0)?, &norm(&other)?.try_index(0)?)
    };
    Ok((moved(layer_norm)?, moved(batch_norm)?))
}

/// Figure: a batch, after layer norm and after batch norm.
pub fn norms(workspace: &Workspace) -> Result<String> {
    let x = uneven(workspace)?;
    let mut text = String::new();
    for (name, array) in [
        ("x", x.clone()),
        ("layer norm", layer_norm(&x)?),
        ("batch norm", batch_norm(&x)?),
    ] {
        let row_means = array.mean_axis(1, true)?;
        let row_deviations = array.var_axis(1, true, None)?.sqrt()?;
        let rows = ops::concatenate(&[array.clone(), row_means, row_deviations], 1)?; // [4, 8]
        let labels: Vec<String> = (1..=4).map(|row| format!("vector {row}")).collect();
        writeln!(text, "{name:<10}{:>43}{:>8}", "mean", "spread")?;
        text += &table(&labels, &rows, 2)?;
        let columns = ops::stack(
            &[array.mean_axis(0, false)?, array.var_axis(0, false, None)?.sqrt()?],
            0,
        )?; // [2, 6]
        text += &table(&["mean    ".into(), "spread  ".into()], &columns, 2)?;
        text.push('\n');
    }
    let (by_layer, by_batch) = change_of_another(workspace)?;
    writeln!(
        text,
        "the last vector with its sign changed: the first one moves by {by_layer:.2} in layer norm, by {by_batch:.2} in batch norm"
    )?;
    Ok(text)
}

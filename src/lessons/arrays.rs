//! Arrays as readable text.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Device, Dtype, linalg, ops, with_device};

use crate::data::batches::Batch;
use crate::tokenizer::Tokenizer;

/// Rows and columns of an array `[rows, columns]`, or of a vector as one row.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn rows(array: &Array) -> Result<Vec<Vec<f32>>> {
    let columns = array.dim(-1) as usize;
    let numbers: Vec<f32> = array.as_dtype(Dtype::Float32)?.flatten(None, None)?.to_vec_exact()?;
    Ok(numbers.chunks(columns).map(<[f32]>::to_vec).collect())
}

/// Formats a matrix `[rows, columns]` with a label before each row.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn table(labels: &[String], array: &Array, decimals: usize) -> Result<String> {
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (label, row) in labels.iter().zip(rows(array)?) {
        write!(text, "{label:<width$} ")?;
        for number in row {
            write!(text, " {number:>w$.decimals$}", w = decimals + 4)?;
        }
        text.push('\n');
    }
    Ok(text)
}

/// Vectors `[V, C]` in the plane of their first two principal components, the two directions in which they differ most: `[V, 2]`.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn principal_plane(vectors: &Array) -> Result<Array> {
    let centred = vectors.subtract(vectors.mean_axis(0, true)?)?; // [V, C]
    let (_, _, directions) = with_device(Device::cpu(), || linalg::svd(&centred))?;
    Ok(centred.matmul(directions.try_index(..2)?.transpose()?)?)
}

/// The largest absolute difference between two arrays of equal, arbitrary shape.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn largest_difference(a: &Array, b: &Array) -> Result<f32> {
    Ok(ops::abs(a.subtract(b)?)?.max(None)?.try_item_exact()?)
}

/// The largest difference between arrays of the same names; infinite if names or shapes differ.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn largest_difference_by_name(a: &BTreeMap<String, Array>, b: &BTreeMap<String, Array>) -> Result<f32> {
    let mut pairs = a.values().zip(b.values());
    if !a.keys().eq(b.keys()) || !pairs.clone().all(|(a, b)| a.shape() == b.shape()) {
        return Ok(f32::INFINITY);
    }
    pairs.try_fold(0.0, |largest, (a, b)| Ok(larger(largest, largest_difference(a, b)?)))
}

/// The largest magnitude of some differences, or NaN if one of them is.
pub fn largest(differences: impl IntoIterator<Item = f32>) -> f32 {
    differences.into_iter().map(f32::abs).fold(0.0, larger)
}

/// The larger of two numbers, or NaN if one of them is.
pub fn larger(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

/// The mean of all numbers of an array, over its last axis first: a sequential float32 sum of a million numbers would be
/// wrong in its third decimal.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn mean(array: &Array) -> Result<f32> {
    Ok(array.mean_axis(-1, false)?.mean(None)?.try_item_exact()?)
}

/// The ids and the targets of a batch, each `[B, T]`.
pub fn ids_and_targets(batch: &Batch) -> [Array; 2] {
    let shape = [batch.rows as i32, batch.context() as i32];
    [&batch.inputs, &batch.targets].map(|ids| Array::from_slice(ids, &shape))
}

/// The characters of a text as labels.
pub fn labels(text: &str) -> Vec<String> {
    text.chars().map(visible).collect()
}

/// Rows as labels, numbered from 0.
pub fn numbered(rows: i32) -> Vec<String> {
    (0..rows).map(|row| row.to_string()).collect()
}

/// Tokens as labels.
///
/// # Errors
/// An unknown id.
pub fn token_labels(tokenizer: &Tokenizer, ids: &[u32]) -> Result<Vec<String>> {
    let label = |&id: &u32| Ok(tokenizer.decode(&[id])?.chars().map(visible).collect());
    ids.iter().map(label).collect()
}

/// A character as a label, with visible line breaks and spaces.
pub fn visible(character: char) -> String {
    match character {
        '\n' => "↵".into(),
        ' ' => "␣".into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_difference_is_hidden_by_another() {
        let named = |a: f32, b: &[f32]| {
            let b = Array::from_slice(b, &[b.len() as i32]);
            BTreeMap::from([("a".to_owned(), Array::from_f32(a)), ("b".to_owned(), b)])
        };
        let difference = |a: f32, b: &[f32]| largest_difference_by_name(&named(a, b), &named(1.0, &[2.0])).unwrap();
        assert_eq!(difference(1.0, &[2.5]), 0.5);
        assert!(difference(f32::NAN, &[2.5]).is_nan() && difference(1.5, &[f32::NAN]).is_nan());
        assert_eq!(difference(1.0, &[2.0, 2.0]), f32::INFINITY);
        assert!(largest([0.5, -2.0]) == 2.0 && largest([f32::NAN, 1.0]).is_nan());
    }
}

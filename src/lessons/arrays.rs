//! Arrays as readable text.

use std::fmt::Write;

use anyhow::Result;
use mlx_rs::{Array, Dtype, ops};

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

/// The largest absolute difference between two arrays of equal, arbitrary shape.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn largest_difference(a: &Array, b: &Array) -> Result<f32> {
    Ok(ops::abs(a.subtract(b)?)?.max(None)?.try_item_exact()?)
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

//! The largest difference of each quantity from the reference, with its tolerance.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::probe::{Answer, Answers, Key, Quantity};

/// One line of the comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Name of the test model.
    pub model: &'static str,
    /// The format of the forward and backward pass.
    pub precision: String,
    /// What was compared; for gradients, with the parameter whose gradient differs most.
    pub what: String,
    /// The largest relative difference; for masks and texts, the number of elements or tokens that differ.
    pub difference: f64,
    /// The tolerance.
    pub allowed: f64,
    /// Whether the difference is within the tolerance.
    pub right: bool,
}

/// Compares what a device computed with the reference.
///
/// # Errors
/// The two have different quantities.
pub fn compare(computed: &Answers, reference: &Answers) -> Result<Vec<Comparison>> {
    ensure!(
        computed.len() == reference.len(),
        "the reference has {} quantities, this device {}",
        reference.len(),
        computed.len()
    );
    let mut rows: BTreeMap<(&'static str, crate::config::Precision, Quantity), Comparison> = BTreeMap::new();
    for (key, answer) in computed {
        let expected = reference
            .get(key)
            .filter(|expected| expected.numbers.len() == answer.numbers.len())
            .with_context(|| format!("the reference has no {key} of that size"))?;
        let (difference, allowed) = difference(key, answer, expected);
        let row = Comparison {
            model: key.model,
            precision: key.precision.to_string(),
            what: what(key),
            difference,
            allowed,
            right: difference <= allowed, // false for NaN
        };
        let worst = rows
            .entry((key.model, key.precision, key.quantity))
            .or_insert(row.clone());
        let further = difference.is_nan() || difference / allowed > worst.difference / worst.allowed;
        if worst.right && further {
            *worst = row;
        }
    }
    Ok(rows.into_values().collect())
}

fn what(key: &Key) -> String {
    match key.quantity {
        Quantity::Logits => "logits".into(),
        Quantity::Gradient => format!("gradients; worst: {}", key.name),
        Quantity::Losses => "10 losses of a training".into(),
        Quantity::GreedyText => "32 tokens of greedy text".into(),
        Quantity::DropoutMask => "dropout mask".into(),
    }
}

/// The difference, and its tolerance.
fn difference(key: &Key, answer: &Answer, expected: &Answer) -> (f64, f64) {
    let (ours, theirs, tolerance) = (&answer.numbers, &expected.numbers, answer.tolerance);
    match key.quantity {
        Quantity::Logits => (relative_to_largest(ours, theirs), tolerance.logits),
        Quantity::Gradient => (relative_to_largest(ours, theirs), tolerance.gradients),
        Quantity::Losses => {
            let off = ours.iter().zip(theirs).enumerate();
            let per_step = off.map(|(step, (a, b))| f64::from((a - b).abs() / b) / (step + 1) as f64);
            (largest(per_step), tolerance.loss_of_a_step)
        }
        Quantity::GreedyText => (tokens_beyond_ties(ours, theirs, tolerance.logits), 0.0),
        Quantity::DropoutMask => (ours.iter().zip(theirs).filter(|(a, b)| a != b).count() as f64, 0.0),
    }
}

/// The largest difference, relative to the largest expected number.
fn relative_to_largest(ours: &[f32], theirs: &[f32]) -> f64 {
    let scale = largest(theirs.iter().map(|&number| f64::from(number.abs())));
    let off = largest(ours.iter().zip(theirs).map(|(a, b)| f64::from((a - b).abs())));
    if off == 0.0 { 0.0 } else { off / scale }
}

/// Number of tokens from the first mismatch on; 0 if the reference's two largest logits are a tie there, since the text
/// after a tie depends on it. The numbers alternate between ids and margins.
fn tokens_beyond_ties(ours: &[f32], theirs: &[f32], near: f64) -> f64 {
    let pairs = ours.chunks(2).zip(theirs.chunks(2));
    let total = ours.len() / 2;
    for (place, (a, b)) in pairs.enumerate() {
        if a[0] != b[0] {
            let tie = f64::from(b[1]) <= near;
            return if tie { 0.0 } else { (total - place) as f64 };
        }
    }
    0.0
}

/// NaN if any number is.
fn largest(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(0.0, |largest, number| {
        if number.is_nan() {
            f64::NAN
        } else if largest.is_nan() || largest > number {
            largest
        } else {
            number
        }
    })
}

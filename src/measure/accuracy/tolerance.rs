//! How far two correct devices may differ.
//!
//! Every result is rounded to its format, and every sum adds its terms in an unspecified order. With unit roundoff `u` of the
//! format, and sums of `n` terms in float32, one operation has a relative error of about `u + √n · 2⁻²⁴` (Higham 2002, section
//! 4.2, for random signs); `r` operations in sequence have `√r` times that. The tolerance is four times this, because the
//! largest of thousands of differences is compared. No constant is tuned to a device.

use crate::config::{ModelConfig, Precision};

/// Operations in a row in a block: two norms, four products, scores, softmax, mixture, activation, two additions.
const OPERATIONS_OF_A_BLOCK: usize = 12;

/// Embedding, final norm, output projection.
const OTHER_OPERATIONS: usize = 3;

/// Tolerance over the standard deviation of a difference.
const FACTOR: f64 = 4.0;

/// Relative tolerances of a model in a format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Relative to the largest logit.
    pub logits: f64,
    /// Relative to the largest element of a parameter's gradient.
    pub gradients: f64,
    /// Relative to a loss, times the number of steps up to it: errors accumulate over steps.
    pub loss_of_a_step: f64,
}

impl Tolerance {
    /// For a batch of `tokens`, which is what gradients are sums over.
    pub fn new(model: &ModelConfig, precision: Precision, tokens: usize) -> Self {
        let forward = OTHER_OPERATIONS + OPERATIONS_OF_A_BLOCK * model.layers;
        let longest = 4 * model.embd;
        let logits = allowed(precision, forward, longest);
        Self {
            logits,
            gradients: allowed(precision, 2 * forward, longest.max(tokens)),
            loss_of_a_step: logits,
        }
    }
}

/// Half the distance from 1 to the next number.
fn unit_roundoff(precision: Precision) -> f64 {
    match precision {
        Precision::Float32 => 2f64.powi(-24),
        Precision::Float16 => 2f64.powi(-11),
        Precision::Bfloat16 => 2f64.powi(-8),
    }
}

fn allowed(precision: Precision, operations: usize, terms: usize) -> f64 {
    let of_one = unit_roundoff(precision) + (terms as f64).sqrt() * unit_roundoff(Precision::Float32);
    FACTOR * (operations as f64).sqrt() * of_one
}

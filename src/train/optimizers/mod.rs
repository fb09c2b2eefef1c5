//! AdamW and Muon, and which of them updates which parameter.

pub mod adamw;
pub mod muon;
pub mod ngram_decay;
pub mod outer;
pub mod schedule;

use crate::config::{ModelConfig, Optimizer, TrainConfig};
use crate::model::ngrams;
use adamw::AdamW;
use muon::Muon;

/// The optimizer of a parameter.
#[derive(Clone, Debug)]
pub enum ParameterOptimizer {
    /// For every parameter, or those that Muon doesn't update.
    AdamW(AdamW),
    /// For the matrices of the blocks.
    Muon(Muon),
}

/// Factor of the learning rate for the n-gram table: AdamW moves a number by about the rate, and most rows are in a few of the
/// steps only.
const NGRAM_LR_FACTOR: f32 = 16.0;

/// Cost of updating one element, which is bound by memory, in FLOPs of a matrix product of the same duration.
const FLOPS_PER_ELEMENT: u64 = 300;

impl ParameterOptimizer {
    /// The optimizer of a parameter. Muon updates the matrices of the blocks; AdamW updates embeddings, the output
    /// projection, convolutions, biases and norms (Jordan et al. 2024).
    pub fn new(config: &TrainConfig, model: &ModelConfig, name: &str, shape: &[i32]) -> Self {
        if uses_adamw(config.optimizer, name, shape) {
            let is_table = name == ngrams::TABLE;
            return Self::AdamW(AdamW {
                beta2: config.beta2,
                // The table has a decay of its own, `ngram_decay`.
                weight_decay: if is_table { 0.0 } else { config.weight_decay },
                lr_factor: if is_table { NGRAM_LR_FACTOR } else { 1.0 },
            });
        }
        Self::Muon(Muon {
            outputs: model.fused_output_sizes(name, shape[1]),
        })
    }

    /// Approximate cost of updating a parameter of that shape, in FLOPs of a matrix product.
    pub fn cost(&self, shape: &[i32]) -> u64 {
        let elements: u64 = shape.iter().map(|&n| n as u64).product();
        match self {
            Self::AdamW(_) => FLOPS_PER_ELEMENT * elements,
            Self::Muon(muon) => FLOPS_PER_ELEMENT * elements + muon.flops(shape[0]),
        }
    }
}

/// Whether AdamW updates a parameter. Only then it has a second moment, a running mean of its squared gradients.
pub fn uses_adamw(optimizer: Optimizer, name: &str, shape: &[i32]) -> bool {
    match optimizer {
        Optimizer::Adamw => true,
        Optimizer::Muon => !muon::applies_to(name, shape),
    }
}

//! Which parameter learns by which rule.

pub mod adamw;
pub mod muon;
pub mod schedule;

use crate::config::{ModelConfig, Optimizer, TrainConfig};
use adamw::AdamW;
use muon::Muon;

/// How a parameter learns from its gradient.
#[derive(Clone, Debug)]
pub enum Rule {
    AdamW(AdamW),
    Muon(Muon),
}

/// The time that an element takes with either rule, most of it waiting for memory, in floating-point operations of a
/// matrix product.
const ELEMENT_COST: u64 = 300;

impl Rule {
    /// The rule of a parameter. Muon is for the matrices of the blocks; embeddings, the head, biases and gains learn by AdamW
    /// (Jordan et al. 2024).
    pub fn new(config: &TrainConfig, model: &ModelConfig, name: &str, shape: &[i32]) -> Self {
        if has_v(config.optimizer, name, shape) {
            return Self::AdamW(AdamW {
                beta2: config.beta2,
                weight_decay: config.weight_decay,
            });
        }
        Self::Muon(Muon {
            outputs: model.fused_outputs(name, shape[1]),
        })
    }

    /// About how much work it is for a parameter of that shape.
    pub fn cost(&self, shape: &[i32]) -> u64 {
        let elements: u64 = shape.iter().map(|&n| n as u64).product();
        match self {
            Self::AdamW(_) => ELEMENT_COST * elements,
            Self::Muon(muon) => ELEMENT_COST * elements + muon.flops(shape[0]),
        }
    }
}

/// Whether a parameter has a running mean of its squared gradients: AdamW keeps one, Muon does not.
pub fn has_v(optimizer: Optimizer, name: &str, shape: &[i32]) -> bool {
    match optimizer {
        Optimizer::Adamw => true,
        Optimizer::Muon => !muon::is_for(name, shape),
    }
}

//! Which parameter learns by which rule.

pub mod adamw;
pub mod muon;
pub mod schedule;

use mlx_rs::Array;
use mlx_rs::error::Result;

use crate::config::{ModelConfig, Optimizer, TrainConfig};
use adamw::AdamW;
use muon::Muon;

/// How a parameter learns from its gradient.
#[derive(Clone, Debug)]
pub enum Rule {
    AdamW(AdamW),
    Muon(Muon),
}

/// What the rules go by in one step.
pub struct Rates {
    pub adamw: adamw::Rates,
    pub muon: muon::Rates,
}

/// What an element costs by either rule, waiting for memory, in floating-point operations of a matrix product.
const ELEMENT_COST: u64 = 300;

impl Rule {
    /// Of that parameter. Muon is for the matrices inside of the blocks: embeddings, the head, biases and gains have no
    /// directions that should all be of one size (Jordan et al. 2024).
    pub fn of(config: &TrainConfig, model: &ModelConfig, name: &str, shape: &[i32]) -> Self {
        if has_v(config.optimizer, name, shape) {
            return Self::AdamW(AdamW {
                weight_decay: config.weight_decay,
            });
        }
        Self::Muon(Muon {
            outputs: model.fused_outputs(name, shape[1]),
        })
    }

    /// Arrays that it keeps beside the parameter: m, and v where there is one.
    pub fn moments(&self) -> usize {
        match self {
            Self::AdamW(_) => 2,
            Self::Muon(_) => 1,
        }
    }

    /// The moments after a step.
    pub fn next_moments(&self, old: &[Array], gradient: &Array, rates: &Rates) -> Result<Vec<Array>> {
        match self {
            Self::AdamW(adamw) => Ok(adamw.moments([&old[0], &old[1]], gradient, &rates.adamw)?.into()),
            Self::Muon(muon) => Ok(vec![muon.momentum(&old[0], gradient, &rates.muon)?]),
        }
    }

    /// The parameter after the step that left those `moments`.
    pub fn next_parameter(&self, old: &Array, moments: &[Array], gradient: &Array, rates: &Rates) -> Result<Array> {
        match self {
            Self::AdamW(adamw) => adamw.parameter(old, [&moments[0], &moments[1]], &rates.adamw),
            Self::Muon(muon) => muon.parameter(old, &moments[0], gradient, &rates.muon),
        }
    }

    /// About how much work it is for a parameter of that shape, to share it out.
    pub fn cost(&self, shape: &[i32]) -> u64 {
        let elements: u64 = shape.iter().map(|&n| n as u64).product();
        match self {
            Self::AdamW(_) => ELEMENT_COST * elements,
            Self::Muon(muon) => ELEMENT_COST * elements + muon.flops(shape[0]),
        }
    }
}

/// Whether that parameter has a running mean of its squared gradients, as AdamW needs and Muon does not.
pub fn has_v(optimizer: Optimizer, name: &str, shape: &[i32]) -> bool {
    optimizer == Optimizer::Adamw || !muon::is_for(name, shape)
}

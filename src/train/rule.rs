//! Which parameter learns by which rule.

use mlx_rs::Array;
use mlx_rs::error::Result;

use super::muon::{self, Muon};
use super::optimizer::{AdamW, Rates, Slot};
use crate::config::{ModelConfig, Optimizer, TrainConfig};

/// How a parameter learns from its gradient.
#[derive(Clone, Debug)]
pub enum Rule {
    AdamW(AdamW),
    Muon(Muon),
}

/// What an element of AdamW costs, which waits for memory, in floating-point operations of a matrix product.
const ADAMW_COST: u64 = 300;

impl Rule {
    /// Of that parameter. Muon is for the matrices inside of the blocks: embeddings, the head, biases and gains have no
    /// directions that should all be of one size (Jordan et al. 2024).
    pub fn of(config: &TrainConfig, model: &ModelConfig, name: &str, shape: &[i32]) -> Self {
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

    /// Arrays of its state: the parameter, m, and v where there is one.
    pub fn arrays(&self) -> usize {
        match self {
            Self::AdamW(_) => 3,
            Self::Muon(_) => 2,
        }
    }

    /// The state after a step of a parameter whose state is given.
    pub fn update(&self, state: &[Array], gradient: &Array, rates: &Rates, muon_lr: &Array) -> Result<Vec<Array>> {
        match self {
            Self::AdamW(adamw) => {
                let [parameter, m, v] = [0, 1, 2].map(|index| state[index].clone());
                let new = adamw.update(&Slot { parameter, m, v }, gradient, rates)?;
                Ok(vec![new.parameter, new.m, new.v])
            }
            Self::Muon(muon) => Ok(muon.update(&state[0], &state[1], gradient, muon_lr)?.into()),
        }
    }

    /// About how much work it is for a parameter of that shape, to share it out.
    pub fn cost(&self, shape: &[i32]) -> u64 {
        let elements: u64 = shape.iter().map(|&n| n as u64).product();
        match self {
            Self::AdamW(_) => ADAMW_COST * elements,
            Self::Muon(muon) => ADAMW_COST * elements + muon.flops(shape[0]),
        }
    }
}

/// Whether that parameter has a running mean of its squared gradients, as AdamW needs and Muon does not.
pub fn has_v(optimizer: Optimizer, name: &str, shape: &[i32]) -> bool {
    optimizer == Optimizer::Adamw || !muon::is_for(name, shape)
}

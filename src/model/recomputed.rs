//! A block with gradient checkpointing: its activations are recomputed in the backward pass.

use mlx_rs::Array;
use mlx_rs::error::Result;

use super::block::Block;
use super::dropout::Dropout;
use super::parameters::Parameters;
use crate::compute::recompute::recomputed;
use crate::config::ModelConfig;

/// A block's parameters; each pass rebuilds the block. Only its input is kept between the passes.
pub struct RecomputedBlock {
    /// `h.0` of the first.
    name: String,
    parameters: Parameters,
    config: ModelConfig,
}

impl RecomputedBlock {
    /// The block of that index.
    pub fn new(layer: usize, config: &ModelConfig, parameters: &Parameters) -> Self {
        let name = format!("h.{layer}");
        Self {
            parameters: parameters.with_prefix(&name),
            name,
            config: config.clone(),
        }
    }

    /// `[B, T, C]` to `[B, T, C]`, as [`Block::forward`]; dropout draws the same masks in both passes.
    pub fn forward(&self, x: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        let inputs = [std::slice::from_ref(x), self.parameters.arrays()].concat();
        let keys: Vec<Array> = match dropout {
            Some(dropout) => vec![dropout.take_keys(Dropout::BLOCK_SITES)?],
            None => Vec::new(),
        };
        let (name, names, config) = (self.name.clone(), self.parameters.names().clone(), self.config.clone());
        let dropout = dropout.cloned();
        recomputed(&inputs, &keys, move |inputs, keys| {
            let parameters = Parameters::new(&names, inputs[1..].to_vec())?;
            let block = Block::new(&parameters.under(&name), &config)?;
            let masks = dropout.as_ref().zip(keys.first());
            let dropout = masks.map(|(dropout, keys)| dropout.with_keys(keys.clone()));
            block.forward(&inputs[0], dropout.as_ref(), None)
        })
    }
}

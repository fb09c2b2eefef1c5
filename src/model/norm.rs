//! Bringing vectors to one scale, in one of two ways.

use mlx_rs::error::Result;
use mlx_rs::{Array, fast};

use super::layers::LayerNorm;
use super::parameters::Scope;
use crate::config;

/// Added to a mean of squares, as GPT-2 adds it to a variance.
const EPSILON: f32 = 1e-5;

pub enum Norm {
    Layer(LayerNorm),
    Rms,
}

impl Norm {
    pub fn new(kind: config::Norm, parameters: &Scope) -> Result<Self> {
        Ok(match kind {
            config::Norm::Layer => Self::Layer(LayerNorm::new(parameters)?),
            config::Norm::Rms => Self::Rms,
        })
    }

    /// The shape stays.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms => rms_norm(x),
        }
    }
}

/// `x / √(mean(x²))` over the channels (Zhang and Sennrich 2019, equation 4, without gain).
pub fn rms_norm(x: &Array) -> Result<Array> {
    fast::rms_norm(x, None, EPSILON)
}

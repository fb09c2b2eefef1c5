//! The feed-forward half of a block: each token thinks on what it gathered, alone.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops;

use super::dropout::{self, Dropout};
use super::layers::Linear;
use super::parameters::Scope;
use crate::config::ModelConfig;

pub struct Mlp {
    /// C to 4C.
    c_fc: Linear,
    /// 4C to C.
    c_proj: Linear,
}

impl Mlp {
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(Self {
            c_fc: Linear::new(&parameters.under("c_fc"), config)?,
            c_proj: Linear::new(&parameters.under("c_proj"), config)?,
        })
    }

    /// `[B, T, C]` to `[B, T, C]`.
    pub fn forward(&self, x: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        let x = gelu(&self.c_fc.forward(x)?)?; // [B, T, 4C]
        dropout::maybe(dropout, self.c_proj.forward(&x)?)
    }
}

/// GPT-2's GELU, the tanh approximation of Hendrycks and Gimpel (2016), equation 2:
/// `0.5 x (1 + tanh(u))` with `u = √(2/π) (x + 0.044715 x³)`.
///
/// As `(1 + tanh(u)) / 2 = sigmoid(2u)`, this is `x · sigmoid(2u)`: the same function with one exponential, which MLX
/// fuses into one kernel.
pub fn gelu(x: &Array) -> Result<Array> {
    let scalar = |value: f64| Array::from_f32(value as f32).as_dtype(x.dtype());
    let twice_root = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let inner = x
        .square()?
        .multiply(scalar(twice_root * 0.044715)?)?
        .add(scalar(twice_root)?)?;
    x.multiply(ops::sigmoid(x.multiply(inner)?)?)
}

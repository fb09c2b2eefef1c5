//! The feed-forward half of a block, applied to each position independently.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops;

use super::dropout::{self, Dropout};
use super::hooks::Hook;
use super::linear::Linear;
use super::parameters::Scope;
use crate::config::{Activation, ModelConfig};

/// Two linear layers with an activation between them.
pub struct Mlp {
    /// C to the hidden channels, 4C in GPT-2; to twice as many with SwiGLU, one half the gate of the other.
    c_fc: Linear,
    /// The hidden channels to C.
    c_proj: Linear,
    activation: Activation,
}

impl Mlp {
    /// Builds the layer from its parameters.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Self> {
        Ok(Self {
            c_fc: Linear::new(&parameters.under("c_fc"), config)?,
            c_proj: Linear::new(&parameters.under("c_proj"), config)?,
            activation: config.components.activation,
        })
    }

    /// `[B, T, C]` to `[B, T, C]`.
    pub fn forward(&self, x: &Array, dropout: Option<&Dropout>) -> Result<Array> {
        let x = self.activate(&self.c_fc.forward(x)?)?; // [B, T, hidden]
        dropout::maybe(dropout, self.c_proj.forward(&x)?)
    }

    /// As [`forward`](Self::forward) without dropout, through `hook`: `pre` and `post`, the hidden channels before and after the
    /// activation.
    pub fn forward_hooked(&self, x: &Array, hook: &mut Hook) -> Result<Array> {
        let pre = hook("pre", self.c_fc.forward(x)?)?;
        let post = hook("post", self.activate(&pre)?)?;
        self.c_proj.forward(&post)
    }

    fn activate(&self, x: &Array) -> Result<Array> {
        match self.activation {
            Activation::Gelu => gelu(x),
            Activation::Relu2 => relu2(x),
            Activation::Swiglu => swiglu(x),
        }
    }
}

/// GPT-2's GELU, the tanh approximation of Hendrycks and Gimpel (2016), equation 2:
/// `0.5 x (1 + tanh(u))` with `u = √(2/π) (x + 0.044715 x³)`.
///
/// As `(1 + tanh(u)) / 2 = sigmoid(2u)`, this is `x · sigmoid(2u)`: the same function with one exponential, which MLX
/// fuses into one kernel. Elementwise, any shape.
pub fn gelu(x: &Array) -> Result<Array> {
    let scalar = |value: f64| Array::from_f32(value as f32).as_dtype(x.dtype());
    let twice_root = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let inner = x
        .square()?
        .multiply(scalar(twice_root * 0.044715)?)?
        .add(scalar(twice_root)?)?;
    x.multiply(ops::sigmoid(x.multiply(inner)?)?)
}

/// `max(x, 0)²` (So et al. 2021, section 4.1). Elementwise, any shape.
pub fn relu2(x: &Array) -> Result<Array> {
    let zero = Array::from_f32(0.0).as_dtype(x.dtype())?;
    ops::maximum(x, zero)?.square()
}

/// `a · sigmoid(a) · b`, a the first half of the channels and b the second (Shazeer 2020, equation 6): `[…, 2F]` to `[…, F]`.
pub fn swiglu(x: &Array) -> Result<Array> {
    let halves = x.split_equal(2, -1)?;
    halves[0].multiply(ops::sigmoid(&halves[0])?)?.multiply(&halves[1])
}

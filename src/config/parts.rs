//! The parts of a transformer: GPT-2's, and later ones.

use serde::{Deserialize, Serialize};

/// How the model knows a token's position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// A learned vector for each position, added to the token's.
    #[default]
    Learned,
    /// Rotary embeddings: queries and keys are rotated by an angle proportional to the position (Su et al. 2021).
    Rotary,
}

/// The normalisation before each layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Layer norm: to mean 0 and variance 1, with a learned gain and bias (Ba, Kiros, Hinton 2016).
    #[default]
    Layer,
    /// RMS norm: to root mean square 1, nothing learned (Zhang and Sennrich 2019).
    Rms,
}

/// The MLP's activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// GELU, `x Φ(x)`, in GPT-2's tanh approximation (Hendrycks and Gimpel 2016).
    #[default]
    Gelu,
    /// Squared ReLU, `max(x, 0)²` (So et al. 2021).
    Relu2,
    /// SwiGLU, `SiLU(a) · b` of the two halves, at two thirds of the width (Shazeer 2020).
    Swiglu,
}

/// The choices of one transformer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    pub position: Position,
    pub norm: Norm,
    /// Queries and keys are normalised to root mean square 1, each head alone (Henry et al. 2020).
    pub qk_norm: bool,
    pub activation: Activation,
    /// The output head is a matrix of its own, not the token embedding once more.
    pub own_head: bool,
    /// Heads of keys and values, each shared by as many heads of queries (Ainslie et al. 2023); as many as those if none.
    pub kv_heads: Option<usize>,
}

impl Parts {
    /// GPT-2's.
    pub const GPT2: Self = Self {
        position: Position::Learned,
        norm: Norm::Layer,
        qk_norm: false,
        activation: Activation::Gelu,
        own_head: false,
        kv_heads: None,
    };

    /// Those that reach a loss first at small sizes. SwiGLU ends lower, with steps that take longer.
    pub const MODERN: Self = Self {
        position: Position::Rotary,
        norm: Norm::Rms,
        qk_norm: true,
        activation: Activation::Relu2,
        own_head: false,
        kv_heads: None,
    };
}

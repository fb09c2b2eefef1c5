//! What a transformer is made of: GPT-2's own choices, and what was found since.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How a token's place is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// A learned vector for each place, added to the token's.
    #[default]
    Learned,
    /// Queries and keys turned by an angle that grows with the place (Su et al. 2021).
    Rotary,
}

/// How a vector is brought to one scale before each layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// To mean 0 and variance 1, with a learned gain and bias (Ba, Kiros, Hinton 2016).
    #[default]
    Layer,
    /// To root mean square 1, nothing learned (Zhang and Sennrich 2019).
    Rms,
}

/// What bends the MLP's hidden numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// x times the chance that a normal number is below x (Hendrycks and Gimpel 2016).
    #[default]
    Gelu,
    /// The square of the positive part (So et al. 2021).
    Relu2,
    /// One half gates the other, at two thirds of the width (Shazeer 2020).
    Swiglu,
}

/// The choices of one transformer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    pub position: Position,
    pub norm: Norm,
    /// Queries and keys are brought to root mean square 1, each head alone (Henry et al. 2020).
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

    /// What reached a loss soonest at small sizes. SwiGLU ends lower, after steps that take longer.
    pub const MODERN: Self = Self {
        position: Position::Rotary,
        norm: Norm::Rms,
        qk_norm: true,
        activation: Activation::Relu2,
        own_head: false,
        kv_heads: None,
    };
}

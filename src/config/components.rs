//! The components of a transformer block: GPT-2's, and newer ones.

use serde::{Deserialize, Serialize};

/// The position encoding.
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
pub enum NormKind {
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

/// The components of a transformer: one choice for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Components {
    /// The position encoding.
    pub position: Position,
    /// The normalisation before each layer.
    pub norm: NormKind,
    /// QK-norm: queries and keys are normalised to root mean square 1, per head (Henry et al. 2020).
    pub qk_norm: bool,
    /// The MLP's activation.
    pub activation: Activation,
    /// The output head is tied to the token embedding; otherwise it is a matrix of its own. It is stored as its
    /// opposite, `own_head`, the key that existing `config.json` files have.
    #[serde(rename = "own_head", with = "negated")]
    pub tie_head: bool,
    /// Key/value heads, each shared by a group of query heads (Ainslie et al. 2023); `None`: one for each query head.
    pub kv_heads: Option<usize>,
}

impl Components {
    /// GPT-2's.
    pub const GPT2: Self = Self {
        position: Position::Learned,
        norm: NormKind::Layer,
        qk_norm: false,
        activation: Activation::Gelu,
        tie_head: true,
        kv_heads: None,
    };

    /// The fastest to a given loss at small sizes. SwiGLU reaches a lower loss with slower steps.
    pub const MODERN: Self = Self {
        position: Position::Rotary,
        norm: NormKind::Rms,
        qk_norm: true,
        activation: Activation::Relu2,
        tie_head: true,
        kv_heads: None,
    };
}

/// A boolean that is stored negated.
mod negated {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(!value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        Ok(!bool::deserialize(deserializer)?)
    }
}

//! The components of a transformer block: GPT-2's, and newer ones.

use anyhow::{Result, ensure};
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

/// Tokens of the widest convolution.
const MAX_CONVOLUTION: usize = 16;

/// Rows of the largest n-gram table.
const MAX_NGRAM_ROWS: usize = 1 << 24;

/// Tokens of the longest n-grams.
const MAX_NGRAM_SIZE: usize = 8;

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
    /// Tokens that the causal convolution before each block takes in, the current one included (Allen-Zhu 2025); 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub convolution: usize,
    /// Rows of the n-gram table, a power of two; 0: no table.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ngram_rows: usize,
    /// The longest n-grams of the table, in tokens: it has those of 2 tokens up to these. 0 without a table.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ngram_size: usize,
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
        convolution: 0,
        ngram_rows: 0,
        ngram_size: 0,
    };

    /// The lowest loss at small sizes that was found; `sweeps/modern.toml` is without one part at a time.
    pub const MODERN: Self = Self {
        position: Position::Rotary,
        norm: NormKind::Rms,
        qk_norm: true,
        activation: Activation::Gelu,
        tie_head: true,
        kv_heads: None,
        convolution: 3,
        ngram_rows: 1 << 15,
        ngram_size: 4,
    };

    /// Checks the sizes of the convolution and of the n-gram table.
    ///
    /// # Errors
    /// One that is out of range, with a fix.
    pub(super) fn validate(&self) -> Result<()> {
        let Self {
            convolution,
            ngram_rows,
            ngram_size,
            ..
        } = *self;
        ensure!(
            convolution != 1 && convolution <= MAX_CONVOLUTION,
            "convolution is {convolution}; it must be 0 for none, or from 2 to {MAX_CONVOLUTION} tokens"
        );
        ensure!(
            ngram_rows == 0 || (ngram_rows.is_power_of_two() && (2..=MAX_NGRAM_ROWS).contains(&ngram_rows)),
            "ngram_rows is {ngram_rows}; it must be 0 for no table, or a power of two from 2 to {MAX_NGRAM_ROWS}, such as 32768"
        );
        ensure!(
            if ngram_rows == 0 {
                ngram_size == 0
            } else {
                (2..=MAX_NGRAM_SIZE).contains(&ngram_size)
            },
            "ngram_size is {ngram_size}; it must be from 2 to {MAX_NGRAM_SIZE} tokens, or 0 where ngram_rows is"
        );
        Ok(())
    }

    /// Sizes of the table's n-grams, in tokens: 2 up to the largest; none without a table.
    pub fn ngram_sizes(&self) -> std::ops::RangeInclusive<usize> {
        2..=self.ngram_size
    }
}

/// What files of earlier versions don't have.
fn is_zero(count: &usize) -> bool {
    *count == 0
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

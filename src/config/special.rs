//! The option for special tokens in a text.

use serde::{Deserialize, Serialize};

/// How to encode the text of special tokens, such as `<|endoftext|>` between documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum SpecialTokens {
    /// As their ids
    Allow,
    /// As ordinary text
    #[default]
    Text,
    /// Not at all: it is an error
    Raise,
}

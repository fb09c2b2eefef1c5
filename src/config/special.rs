//! Special tokens in a text, as an option.

use serde::{Deserialize, Serialize};

/// What becomes of special tokens whose text is in a text, such as `<|endoftext|>` between documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum SpecialTokens {
    /// They become their ids
    Allow,
    /// They are text like any other
    #[default]
    Text,
    /// They are an error
    Raise,
}

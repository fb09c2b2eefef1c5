//! How special tokens in a text are encoded.

use std::collections::BTreeMap;

use crate::config::SpecialTokens;

/// A note on special tokens that are encoded as ordinary text, given their counts; `None` if there are none.
pub fn ordinary_text_note(counts: &BTreeMap<String, usize>) -> Option<String> {
    let tokens = counts.iter().map(|(token, count)| match count {
        1 => format!("{token} once"),
        2 => format!("{token} twice"),
        count => format!("{token} {count} times"),
    });
    let tokens: Vec<String> = tokens.collect();
    (!tokens.is_empty()).then(|| {
        format!(
            "the text has {}, encoded as ordinary text; use --special allow to encode such text as special tokens",
            tokens.join(", ")
        )
    })
}

/// Some of a tokenizer's special tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecialTokenSet {
    /// None of them.
    None,
    /// All of them.
    All,
    /// Those whose text is listed.
    Only(Vec<String>),
}

impl SpecialTokenSet {
    pub(super) fn has(&self, token: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Only(tokens) => tokens.iter().any(|other| other == token),
        }
    }
}

/// How special tokens in a text are encoded, as tiktoken's `allowed_special` and `disallowed_special`: a disallowed one is
/// an error, an allowed one becomes its id, any other is ordinary text. As in tiktoken, disallowing all means all that are
/// not allowed.
///
/// Ordinary text is the default, because text from users should not be able to end a document or forge a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialTokenPolicy {
    /// Those that become their ids.
    pub allowed: SpecialTokenSet,
    /// Those that are an error.
    pub disallowed: SpecialTokenSet,
}

impl SpecialTokenPolicy {
    /// Special tokens are ordinary text. tiktoken's `encode_ordinary`.
    pub const TEXT: Self = Self {
        allowed: SpecialTokenSet::None,
        disallowed: SpecialTokenSet::None,
    };
    /// Special tokens become their ids. tiktoken's `allowed_special="all"`.
    pub const ALLOW: Self = Self {
        allowed: SpecialTokenSet::All,
        disallowed: SpecialTokenSet::None,
    };
    /// A special token in the text is an error. tiktoken's default.
    pub const RAISE: Self = Self {
        allowed: SpecialTokenSet::None,
        disallowed: SpecialTokenSet::All,
    };

    /// These tokens become their ids; another special token in the text is an error.
    pub fn only(tokens: &[&str]) -> Self {
        Self {
            allowed: SpecialTokenSet::Only(tokens.iter().map(|&token| token.to_owned()).collect()),
            disallowed: SpecialTokenSet::All,
        }
    }

    pub(super) fn raises(&self, token: &str) -> bool {
        match self.disallowed {
            SpecialTokenSet::All => !self.allowed.has(token),
            _ => self.disallowed.has(token),
        }
    }
}

impl From<SpecialTokens> for SpecialTokenPolicy {
    fn from(option: SpecialTokens) -> Self {
        match option {
            SpecialTokens::Allow => Self::ALLOW,
            SpecialTokens::Text => Self::TEXT,
            SpecialTokens::Raise => Self::RAISE,
        }
    }
}

//! Special tokens in a text, and whether they may be there.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// Some of a tokenizer's special tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Specials {
    None,
    All,
    These(Vec<String>),
}

impl Specials {
    fn has(&self, token: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(tokens) => tokens.iter().any(|other| other == token),
        }
    }
}

/// What becomes of special tokens that a text contains, as tiktoken's `allowed_special` and `disallowed_special` say:
/// one that is disallowed is an error, one that is allowed becomes its id, any other is ordinary text. As in tiktoken,
/// disallowing all means all that are not allowed.
///
/// Text from users should not be able to end a document or forge a role: so ordinary text is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialChoice {
    pub allowed: Specials,
    pub disallowed: Specials,
}

impl SpecialChoice {
    /// Special tokens are text like any other. tiktoken's `encode_ordinary`.
    pub const TEXT: Self = Self {
        allowed: Specials::None,
        disallowed: Specials::None,
    };
    /// Special tokens become their ids. tiktoken's `allowed_special="all"`.
    pub const ALLOW: Self = Self {
        allowed: Specials::All,
        disallowed: Specials::None,
    };
    /// A special token in the text is an error. tiktoken's default.
    pub const RAISE: Self = Self {
        allowed: Specials::None,
        disallowed: Specials::All,
    };

    /// These tokens become their ids; another special token in the text is an error.
    pub fn only(tokens: &[&str]) -> Self {
        Self {
            allowed: Specials::These(tokens.iter().map(|&token| token.to_owned()).collect()),
            disallowed: Specials::All,
        }
    }

    fn raises(&self, token: &str) -> bool {
        match self.disallowed {
            Specials::All => !self.allowed.has(token),
            _ => self.disallowed.has(token),
        }
    }
}

/// A stretch of ordinary text, or a special token's id.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Text(&'a str),
    Special(u32),
}

/// Cuts a text at the special tokens that are allowed in it. Where several begin at one place, the longest counts.
///
/// # Errors
/// A token that is in the text and disallowed, named.
pub fn parts<'a>(text: &'a str, specials: &BTreeMap<String, u32>, choice: &SpecialChoice) -> Result<Vec<Part<'a>>> {
    let disallowed = specials.keys().filter(|token| choice.raises(token));
    if let Some((at, token)) = disallowed
        .filter_map(|token| Some((text.find(token.as_str())?, token)))
        .min()
    {
        bail!(
            "the text has the special token {token} at byte {at}; allow special tokens, or have them encoded as ordinary text"
        );
    }
    let allowed: Vec<(&str, u32)> = specials
        .iter()
        .filter(|(token, _)| choice.allowed.has(token))
        .map(|(token, &id)| (token.as_str(), id))
        .collect();
    // Where each next occurs: a token is looked for again only once its place has been passed.
    let mut next: Vec<Option<usize>> = allowed.iter().map(|(token, _)| text.find(token)).collect();
    let mut parts = Vec::new();
    let mut from = 0;
    loop {
        for (place, (token, _)) in next.iter_mut().zip(&allowed) {
            if place.is_some_and(|at| at < from) {
                *place = text[from..].find(token).map(|at| from + at);
            }
        }
        let found = next
            .iter()
            .zip(&allowed)
            .filter_map(|(&place, &(token, id))| Some((place?, token, id)))
            .min_by_key(|&(at, token, _)| (at, std::cmp::Reverse(token.len())));
        let end = found.map_or(text.len(), |(at, ..)| at);
        if end > from {
            parts.push(Part::Text(&text[from..end]));
        }
        let Some((at, token, id)) = found else {
            return Ok(parts);
        };
        parts.push(Part::Special(id));
        from = at + token.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_allowed_tokens() {
        let specials = BTreeMap::from([("<a>".to_owned(), 7), ("<a><b>".to_owned(), 8), ("<c>".to_owned(), 9)]);
        let of = |text, choice: SpecialChoice| parts(text, &specials, &choice);
        assert_eq!(
            of("x<a><b><a>y<c>", SpecialChoice::ALLOW).unwrap(),
            [
                Part::Text("x"),
                Part::Special(8),
                Part::Special(7),
                Part::Text("y"),
                Part::Special(9)
            ]
        );
        assert_eq!(of("x<a>", SpecialChoice::TEXT).unwrap(), [Part::Text("x<a>")]);
        assert_eq!(of("<c>", SpecialChoice::only(&["<c>"])).unwrap(), [Part::Special(9)]);
        let error = of("x<a><c>", SpecialChoice::only(&["<c>"])).unwrap_err().to_string();
        assert!(error.contains("<a> at byte 1"), "{error}");
        assert!(of("x<c>", SpecialChoice::RAISE).is_err());
        assert_eq!(of("", SpecialChoice::ALLOW).unwrap(), []);
    }
}

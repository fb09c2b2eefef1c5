//! How a text is cut into chunks before merging: by a published pattern, or by a regular expression of one's own.

use std::str::FromStr;

use anyhow::{Context, Error, Result};
use fancy_regex::Regex;

use super::Pattern;

/// What cuts a text into the chunks that no merge crosses.
///
/// ```
/// use mlx_gpt::tokenizer::{Pattern, PreTokenizer};
///
/// assert_eq!("gpt4".parse::<PreTokenizer>()?, Pattern::Gpt4.into());
/// let lines: PreTokenizer = r"[^\n]*\n|[^\n]+".parse()?;
/// assert_eq!(lines.chunks("one\ntwo")?, ["one\n", "two"]);
/// assert!("(".parse::<PreTokenizer>().is_err());
/// # anyhow::Ok(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum PreTokenizer {
    /// GPT-2's or GPT-4's pattern, by a hand-written scanner.
    Pattern(Pattern),
    /// Any other regular expression.
    Expression(Expression),
}

/// A regular expression, as `tokenizers` reads one: look-ahead and back-references are allowed.
#[derive(Clone, Debug)]
pub struct Expression(Regex);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Expression {
    /// The regular expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The matches, and what is between them.
    ///
    /// # Errors
    /// A text on which the expression takes too many steps.
    fn chunks<'a>(&self, text: &'a str) -> Result<Vec<&'a str>> {
        let mut chunks = Vec::new();
        let mut from = 0;
        for found in self.0.find_iter(text) {
            let found = found.with_context(|| format!("the pattern {} takes too many steps", self.as_str()))?;
            chunks.extend([&text[from..found.start()], found.as_str()]);
            from = found.end();
        }
        chunks.push(&text[from..]);
        chunks.retain(|chunk| !chunk.is_empty());
        Ok(chunks)
    }
}

impl PreTokenizer {
    /// The published pattern with that regular expression, or the expression.
    ///
    /// # Errors
    /// It is no regular expression.
    pub fn from_regex(regex: &str) -> Result<Self> {
        match Pattern::ALL.into_iter().find(|pattern| pattern.regex() == regex) {
            Some(pattern) => Ok(pattern.into()),
            None => Ok(Self::Expression(Expression(Regex::new(regex)?))),
        }
    }

    /// The regular expression that splits the text into chunks.
    pub fn regex(&self) -> &str {
        match self {
            Self::Pattern(pattern) => pattern.regex(),
            Self::Expression(expression) => expression.as_str(),
        }
    }

    /// The chunks of `text`, in order; joined, they are `text` again.
    ///
    /// # Errors
    /// A text on which a regular expression takes too many steps.
    pub fn chunks<'a>(&self, text: &'a str) -> Result<Vec<&'a str>> {
        match self {
            Self::Pattern(pattern) => Ok(pattern.split(text).collect()),
            Self::Expression(expression) => expression.chunks(text),
        }
    }

    /// `text` in stretches of about `size` bytes that can be cut into chunks one by one. Where a regular expression cuts
    /// is not known before, so that it gets the text whole.
    pub fn segments<'a>(&self, text: &'a str, size: usize) -> Vec<&'a str> {
        match self {
            Self::Pattern(_) => Pattern::segments(text, size),
            Self::Expression(_) => vec![text],
        }
    }
}

impl From<Pattern> for PreTokenizer {
    fn from(pattern: Pattern) -> Self {
        Self::Pattern(pattern)
    }
}

/// `gpt2`, `gpt4`, or a regular expression.
impl FromStr for PreTokenizer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "gpt2" => Ok(Pattern::Gpt2.into()),
            "gpt4" => Ok(Pattern::Gpt4.into()),
            regex => Self::from_regex(regex).context("it is neither gpt2 nor gpt4 nor a regular expression"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_expression_does_not_match_is_a_chunk_too() {
        let words: PreTokenizer = "[a-z]+".parse().unwrap();
        assert_eq!(words.chunks("1ab-2").unwrap(), ["1", "ab", "-2"]);
        assert_eq!(words.chunks("").unwrap(), [""; 0]);
        let empty: PreTokenizer = "x*".parse().unwrap();
        assert_eq!(empty.chunks("axxb").unwrap(), ["a", "xx", "b"]);
    }

    #[test]
    fn the_expression_of_a_published_pattern_is_that_pattern() {
        for pattern in Pattern::ALL {
            assert_eq!(pattern.regex().parse::<PreTokenizer>().unwrap(), pattern.into());
        }
    }

    #[test]
    fn too_many_steps_are_an_error() {
        let slow: PreTokenizer = r"(x+x+)+\1y".parse().unwrap();
        let error = slow.chunks(&"x".repeat(100)).unwrap_err();
        assert!(error.to_string().contains("takes too many steps"), "{error}");
    }
}

//! Added tokens, which are matched in a text before it is split and merged: special tokens, and others that were added to a
//! vocabulary after its training, as in `added_tokens` of a `tokenizer.json`.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::ids;
use super::special::{SpecialTokenPolicy, SpecialTokenSet};

/// An added token, with Hugging Face's names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddedToken {
    /// Its id in the vocabulary.
    pub id: u32,
    /// Its text.
    pub content: String,
    /// It is matched only where special tokens are allowed, see [`SpecialTokenPolicy`]; other added tokens always are.
    pub special: bool,
    /// It matches only whole words: with no letter, digit or underscore before or after it.
    pub single_word: bool,
    /// It absorbs preceding white space.
    pub lstrip: bool,
    /// It absorbs following white space.
    pub rstrip: bool,
    /// It is matched after the others, in the text between them.
    pub normalized: bool,
}

impl AddedToken {
    /// A special token that matches wherever its text occurs.
    pub fn special(content: &str, id: u32) -> Self {
        Self {
            id,
            content: content.to_owned(),
            special: true,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
        }
    }

    /// Reads an entry of `added_tokens`; a missing flag is false.
    pub fn from_json(json: &Value) -> Option<Self> {
        let is = |key: &str| json[key] == true;
        Some(Self {
            id: ids::id(&json["id"])?,
            content: json["content"].as_str()?.to_owned(),
            special: is("special"),
            single_word: is("single_word"),
            lstrip: is("lstrip"),
            rstrip: is("rstrip"),
            normalized: is("normalized"),
        })
    }

    /// An entry of `added_tokens`.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "content": self.content,
            "single_word": self.single_word,
            "lstrip": self.lstrip,
            "rstrip": self.rstrip,
            "normalized": self.normalized,
            "special": self.special
        })
    }

    /// Whether the text around it matters: it absorbs white space, or matches only whole words.
    pub fn takes_more_than_its_text(&self) -> bool {
        self.single_word || self.lstrip || self.rstrip
    }
}

/// A span of a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// Text between added tokens.
    Text(&'a str),
    /// The id of an added token.
    Token(u32),
}

/// The added tokens of a vocabulary.
#[derive(Clone, Debug, Default)]
pub struct AddedTokens {
    /// Sorted by id.
    tokens: Vec<AddedToken>,
    specials: BTreeMap<String, u32>,
    /// Matches those that are not special.
    ordinary: Matcher,
    /// Matches them all.
    all: Matcher,
}

impl PartialEq for AddedTokens {
    fn eq(&self, other: &Self) -> bool {
        self.tokens == other.tokens // all else is made from them
    }
}

impl AddedTokens {
    /// Builds the matchers of these tokens.
    ///
    /// # Errors
    /// Tokens whose text is too long for a matcher.
    pub fn new(mut tokens: Vec<AddedToken>) -> Result<Self> {
        tokens.sort();
        if pass_order_is_irrelevant(&tokens) {
            tokens.iter_mut().for_each(|token| token.normalized = false);
        }
        let specials = tokens.iter().filter(|token| token.special);
        Ok(Self {
            specials: specials.map(|token| (token.content.clone(), token.id)).collect(),
            ordinary: Matcher::new(tokens.iter().filter(|token| !token.special))?,
            all: Matcher::new(tokens.iter())?,
            tokens,
        })
    }

    /// The tokens, sorted by id.
    pub fn tokens(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// The ids of the special tokens by their text.
    pub fn specials(&self) -> &BTreeMap<String, u32> {
        &self.specials
    }

    /// Whether no text can contain a token that `policy` would match or reject.
    pub fn match_nothing(&self, policy: &SpecialTokenPolicy) -> bool {
        self.ordinary.is_empty() && (self.specials.is_empty() || *policy == SpecialTokenPolicy::TEXT)
    }

    /// Splits a text at the tokens that are not special, and at the special ones that are allowed, as Hugging Face's
    /// `tokenizers` does. Where several begin at one position, the longest matches.
    ///
    /// # Errors
    /// A disallowed token in the text.
    pub fn split<'a>(&self, text: &'a str, policy: &SpecialTokenPolicy) -> Result<Vec<Segment<'a>>> {
        self.check_disallowed(text, policy)?;
        let some;
        let finder = match &policy.allowed {
            SpecialTokenSet::All => &self.all,
            SpecialTokenSet::None => &self.ordinary,
            SpecialTokenSet::Only(_) => {
                let allowed = |token: &&AddedToken| !token.special || policy.allowed.has(&token.content);
                some = Matcher::new(self.tokens.iter().filter(allowed))?;
                &some
            }
        };
        Ok(finder.split(text))
    }

    /// Checks that a text has no disallowed token.
    ///
    /// # Errors
    /// The first of them.
    pub fn check_disallowed(&self, text: &str, policy: &SpecialTokenPolicy) -> Result<()> {
        if policy.disallowed == SpecialTokenSet::None {
            return Ok(());
        }
        let raises = |token: &&AddedToken| token.special && policy.raises(&token.content);
        let finder = Matcher::new(self.tokens.iter().filter(raises))?;
        if let Some((at, token)) = finder.first(text) {
            bail!(
                "the text has the special token {} at byte {at}; allow special tokens, or have them encoded as ordinary text",
                token.content
            );
        }
        Ok(())
    }

    /// The special tokens that occur in `text`, with their counts.
    pub fn count_specials(&self, text: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        if !self.specials.is_empty() {
            for token in self.all.all_matches(text).filter(|token| token.special) {
                *counts.entry(token.content.clone()).or_default() += 1;
            }
        }
        counts
    }
}

/// The spans of `text` between `specials`.
///
/// # Errors
/// As [`AddedTokens::new`].
pub fn texts_between<'a>(text: &'a str, specials: &[&str]) -> Result<Vec<&'a str>> {
    let tokens = specials.iter().filter(|token| !token.is_empty());
    let tokens = tokens.map(|token| AddedToken::special(token, 0));
    let segments = AddedTokens::new(tokens.collect())?.split(text, &SpecialTokenPolicy::ALLOW)?;
    let texts = segments.into_iter().filter_map(|segment| match segment {
        Segment::Text(text) => Some(text),
        Segment::Token(_) => None,
    });
    Ok(texts.collect())
}

/// Whether the order of the passes cannot matter: all tokens are in one pass, or no two of different passes can overlap.
fn pass_order_is_irrelevant(tokens: &[AddedToken]) -> bool {
    /// Limit of the pairwise comparison; with more tokens, the order is taken to matter.
    const MAX_PAIRWISE_TOKENS: usize = 512;
    let normalized = tokens.iter().filter(|token| token.normalized).count();
    if normalized == 0 || normalized == tokens.len() {
        return true;
    }
    let overlap = |a: &str, b: &str| {
        let mut ends = a.char_indices().map(|(at, _)| &a[at..]);
        a.contains(b) || ends.any(|end| b.starts_with(end))
    };
    tokens.len() <= MAX_PAIRWISE_TOKENS
        && !tokens.iter().any(AddedToken::takes_more_than_its_text)
        && tokens.iter().filter(|token| token.normalized).all(|one| {
            let others = tokens.iter().filter(|token| !token.normalized);
            others
                .into_iter()
                .all(|other| !overlap(&one.content, &other.content) && !overlap(&other.content, &one.content))
        })
}

/// Matches several tokens at once.
#[derive(Clone, Debug, Default)]
struct Matcher {
    /// One for tokens that are not normalized, then one for those that are.
    passes: Vec<MatchPass>,
}

/// Tokens that are matched together, the longest first.
#[derive(Clone, Debug)]
struct MatchPass {
    index: AhoCorasick,
    tokens: Vec<AddedToken>,
}

impl Matcher {
    fn new<'a>(tokens: impl Iterator<Item = &'a AddedToken>) -> Result<Self> {
        let (last, first): (Vec<_>, Vec<_>) = tokens.cloned().partition(|token| token.normalized);
        let passes = [first, last].into_iter().filter(|tokens| !tokens.is_empty());
        let passes = passes.map(|tokens| {
            let index = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                // The other kinds of automata take a kilobyte for each byte of a token.
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(tokens.iter().map(|token| token.content.as_bytes()))
                .context("the added tokens have too much text")?;
            Ok(MatchPass { index, tokens })
        });
        Ok(Self {
            passes: passes.collect::<Result<_>>()?,
        })
    }

    fn is_empty(&self) -> bool {
        self.passes.is_empty()
    }

    fn first(&self, text: &str) -> Option<(usize, &AddedToken)> {
        let found = self.passes.iter().filter_map(|pass| {
            let found = pass.index.find(text)?;
            Some((found.start(), &pass.tokens[found.pattern().as_usize()]))
        });
        found.min_by_key(|&(at, _)| at)
    }

    fn all_matches(&self, text: &str) -> impl Iterator<Item = &AddedToken> {
        self.passes.iter().flat_map(move |pass| {
            let found = pass.index.find_iter(text);
            found.map(|found| &pass.tokens[found.pattern().as_usize()])
        })
    }

    fn split<'a>(&self, text: &'a str) -> Vec<Segment<'a>> {
        let mut segments = vec![Segment::Text(text)];
        for pass in &self.passes {
            let before = std::mem::take(&mut segments);
            for segment in before {
                match segment {
                    Segment::Text(text) => pass.split(text, &mut segments),
                    token @ Segment::Token(_) => segments.push(token),
                }
            }
        }
        segments.retain(|segment| *segment != Segment::Text(""));
        segments
    }
}

impl MatchPass {
    fn split<'a>(&self, text: &'a str, segments: &mut Vec<Segment<'a>>) {
        let mut from = 0;
        for found in self.index.find_iter(text) {
            let token = &self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            if token.single_word
                && (text[..start].chars().next_back().is_some_and(is_word_character)
                    || text[end..].chars().next().is_some_and(is_word_character))
            {
                continue;
            }
            if token.lstrip {
                start = text[..start].trim_end().len();
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if start > from {
                segments.push(Segment::Text(&text[from..start]));
            }
            segments.push(Segment::Token(token.id));
            from = end;
        }
        segments.push(Segment::Text(&text[from..]));
    }
}

/// `\w` of regular expressions.
fn is_word_character(character: char) -> bool {
    regex_syntax::try_is_word_character(character).unwrap_or_else(|_| character.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split<'a>(tokens: &[AddedToken], text: &'a str, policy: &SpecialTokenPolicy) -> Result<Vec<Segment<'a>>> {
        AddedTokens::new(tokens.to_vec())?.split(text, policy)
    }

    #[test]
    fn a_text_is_cut_at_allowed_tokens() {
        let specials = [("<a>", 7), ("<a><b>", 8), ("<c>", 9)].map(|(content, id)| AddedToken::special(content, id));
        let of = |text, policy: SpecialTokenPolicy| split(&specials, text, &policy);
        assert_eq!(
            of("x<a><b><a>y<c>", SpecialTokenPolicy::ALLOW).unwrap(),
            [
                Segment::Text("x"),
                Segment::Token(8),
                Segment::Token(7),
                Segment::Text("y"),
                Segment::Token(9)
            ]
        );
        assert_eq!(of("x<a>", SpecialTokenPolicy::TEXT).unwrap(), [Segment::Text("x<a>")]);
        assert_eq!(
            of("<c>", SpecialTokenPolicy::only(&["<c>"])).unwrap(),
            [Segment::Token(9)]
        );
        let error = of("x<a><c>", SpecialTokenPolicy::only(&["<c>"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("<a> at byte 1"), "{error}");
        assert!(of("x<c>", SpecialTokenPolicy::RAISE).is_err());
        assert_eq!(of("", SpecialTokenPolicy::ALLOW).unwrap(), []);
    }

    #[test]
    fn the_order_of_looking_is_kept_only_where_it_tells() {
        let normalized = |content: &str, id| AddedToken {
            normalized: true,
            ..AddedToken::special(content, id)
        };
        let is_kept = |tokens: Vec<AddedToken>| {
            let tokens = AddedTokens::new(tokens).unwrap();
            tokens.tokens().iter().any(|token| token.normalized)
        };
        let plain = AddedToken::special;
        assert!(!is_kept(vec![normalized("<a>", 0)]));
        assert!(!is_kept(vec![normalized("<a>", 0), plain("(b)", 1)]));
        assert!(is_kept(vec![normalized("<a>", 0), plain("<a><b>", 1)]));
        assert!(is_kept(vec![normalized("<a><", 0), plain("<b>", 1)]));
        assert!(is_kept(vec![normalized("b><a", 0), plain("<b>", 1)]));
        let odd = AddedToken {
            lstrip: true,
            ..plain("(b)", 1)
        };
        assert!(is_kept(vec![normalized("<a>", 0), odd]));
        // What is not normalized is found first, though it begins later and is shorter.
        let parts = split(
            &[normalized("ab", 0), plain("bc", 1)],
            "abcab",
            &SpecialTokenPolicy::ALLOW,
        );
        assert_eq!(
            parts.unwrap(),
            [Segment::Text("a"), Segment::Token(1), Segment::Token(0)]
        );
    }

    #[test]
    fn special_tokens_in_a_text_are_counted() {
        let added = AddedTokens::new(vec![AddedToken::special("<a>", 0), AddedToken::special("<b>", 1)]).unwrap();
        assert_eq!(
            added.count_specials("<a>x<a><c>"),
            BTreeMap::from([("<a>".to_owned(), 2)])
        );
    }
}

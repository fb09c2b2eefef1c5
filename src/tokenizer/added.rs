//! Tokens that are looked for in a text before it is split and merged: special tokens, and others that a vocabulary got
//! after its training, as `added_tokens` of a `tokenizer.json` lists them.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::special::{SpecialChoice, Specials};

/// A token that was added to a vocabulary, by Hugging Face's names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddedToken {
    pub id: u32,
    pub content: String,
    /// It is found only where special tokens are asked for, see [`SpecialChoice`]; another one always.
    pub special: bool,
    /// It is no part of a word: no letter, digit or underscore is before or after it.
    pub single_word: bool,
    /// It takes the white space before it with it.
    pub lstrip: bool,
    /// It takes the white space after it with it.
    pub rstrip: bool,
    /// It is looked for after the others, in the text that they leave.
    pub normalized: bool,
}

impl AddedToken {
    /// A special token that is found wherever its text is.
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

    /// The token as `added_tokens` lists it; what it doesn't say is false.
    pub fn from_json(json: &Value) -> Option<Self> {
        let is = |key: &str| json[key] == true;
        Some(Self {
            id: json["id"].as_u64()?.try_into().ok()?,
            content: json["content"].as_str()?.to_owned(),
            special: is("special"),
            single_word: is("single_word"),
            lstrip: is("lstrip"),
            rstrip: is("rstrip"),
            normalized: is("normalized"),
        })
    }

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

    /// Whether what stands around it matters: it takes white space with it, or is no part of a word.
    pub fn takes_more_than_its_text(&self) -> bool {
        self.single_word || self.lstrip || self.rstrip
    }
}

/// A stretch of text between added tokens, or the id of one.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

/// The added tokens of a vocabulary.
#[derive(Clone, Debug, Default)]
pub struct AddedTokens {
    /// In the order of their ids.
    tokens: Vec<AddedToken>,
    specials: BTreeMap<String, u32>,
    /// Finds those that are not special.
    ordinary: Finder,
    /// Finds them all.
    all: Finder,
}

impl AddedTokens {
    /// # Errors
    /// More text than an index of it can be made of.
    pub fn new(mut tokens: Vec<AddedToken>) -> Result<Self> {
        tokens.sort();
        if order_is_all_one(&tokens) {
            tokens.iter_mut().for_each(|token| token.normalized = false);
        }
        let specials = tokens.iter().filter(|token| token.special);
        Ok(Self {
            specials: specials.map(|token| (token.content.clone(), token.id)).collect(),
            ordinary: Finder::new(tokens.iter().filter(|token| !token.special))?,
            all: Finder::new(tokens.iter())?,
            tokens,
        })
    }

    /// In the order of their ids.
    pub fn tokens(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// The special ones and their ids.
    pub fn specials(&self) -> &BTreeMap<String, u32> {
        &self.specials
    }

    /// Whether any text is free of tokens that `choice` has found, or complained about, in it.
    pub fn are_never_in_text(&self, choice: &SpecialChoice) -> bool {
        self.ordinary.is_empty() && (self.specials.is_empty() || *choice == SpecialChoice::TEXT)
    }

    /// Cuts a text at the tokens that are not special, and at the special ones that are allowed in it, as Hugging Face's
    /// `tokenizers` does. Where several begin at one place, the longest counts.
    ///
    /// # Errors
    /// A token that is in the text and disallowed, named.
    pub fn parts<'a>(&self, text: &'a str, choice: &SpecialChoice) -> Result<Vec<Part<'a>>> {
        self.check_disallowed(text, choice)?;
        let some;
        let finder = match &choice.allowed {
            Specials::All => &self.all,
            Specials::None => &self.ordinary,
            Specials::These(_) => {
                let allowed = |token: &&AddedToken| !token.special || choice.allowed.has(&token.content);
                some = Finder::new(self.tokens.iter().filter(allowed))?;
                &some
            }
        };
        Ok(finder.parts(text))
    }

    /// # Errors
    /// A token that is in the text and disallowed, named.
    pub fn check_disallowed(&self, text: &str, choice: &SpecialChoice) -> Result<()> {
        if choice.disallowed == Specials::None {
            return Ok(());
        }
        let raises = |token: &&AddedToken| token.special && choice.raises(&token.content);
        let finder = Finder::new(self.tokens.iter().filter(raises))?;
        if let Some((at, token)) = finder.first(text) {
            bail!(
                "the text has the special token {} at byte {at}; allow special tokens, or have them encoded as ordinary text",
                token.content
            );
        }
        Ok(())
    }

    /// The special tokens whose text is in `text`, and how often each is.
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

/// The stretches of `text` between `specials`, which is all of it but them.
///
/// # Errors
/// Too many of them.
pub fn texts_between<'a>(text: &'a str, specials: &[&str]) -> Result<Vec<&'a str>> {
    let tokens = specials.iter().filter(|token| !token.is_empty());
    let tokens = tokens.map(|token| AddedToken::special(token, 0));
    let parts = AddedTokens::new(tokens.collect())?.parts(text, &SpecialChoice::ALLOW)?;
    let texts = parts.into_iter().filter_map(|part| match part {
        Part::Text(text) => Some(text),
        Part::Token(_) => None,
    });
    Ok(texts.collect())
}

/// Whether it makes no difference in which order the tokens are looked for: all have the same place in it, or no text can
/// belong to two of them.
fn order_is_all_one(tokens: &[AddedToken]) -> bool {
    /// The comparison of each token with each is of this many at most.
    const FEW: usize = 512;
    let normalized = tokens.iter().filter(|token| token.normalized).count();
    if normalized == 0 || normalized == tokens.len() {
        return true;
    }
    let overlap = |a: &str, b: &str| {
        let mut ends = a.char_indices().map(|(at, _)| &a[at..]);
        a.contains(b) || ends.any(|end| b.starts_with(end))
    };
    tokens.len() <= FEW
        && !tokens.iter().any(AddedToken::takes_more_than_its_text)
        && tokens.iter().filter(|token| token.normalized).all(|one| {
            let others = tokens.iter().filter(|token| !token.normalized);
            others
                .into_iter()
                .all(|other| !overlap(&one.content, &other.content) && !overlap(&other.content, &one.content))
        })
}

/// Looks for some tokens at once.
#[derive(Clone, Debug, Default)]
struct Finder {
    /// Those that are not normalized, then those that are.
    passes: Vec<Pass>,
}

#[derive(Clone, Debug)]
struct Pass {
    index: AhoCorasick,
    tokens: Vec<AddedToken>,
}

impl Finder {
    fn new<'a>(tokens: impl Iterator<Item = &'a AddedToken>) -> Result<Self> {
        let (last, first): (Vec<_>, Vec<_>) = tokens.cloned().partition(|token| token.normalized);
        let passes = [first, last].into_iter().filter(|tokens| !tokens.is_empty());
        let passes = passes.map(|tokens| {
            let index = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                // The others take a kilobyte for each byte of such a token.
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(tokens.iter().map(|token| token.content.as_bytes()))
                .context("the added tokens have too much text")?;
            Ok(Pass { index, tokens })
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

    fn parts<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let mut parts = vec![Part::Text(text)];
        for pass in &self.passes {
            let before = std::mem::take(&mut parts);
            for part in before {
                match part {
                    Part::Text(text) => pass.cut(text, &mut parts),
                    token @ Part::Token(_) => parts.push(token),
                }
            }
        }
        parts.retain(|part| *part != Part::Text(""));
        parts
    }
}

impl Pass {
    fn cut<'a>(&self, text: &'a str, parts: &mut Vec<Part<'a>>) {
        let mut from = 0;
        for found in self.index.find_iter(text) {
            let token = &self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            if token.single_word
                && (text[..start].chars().next_back().is_some_and(is_of_word)
                    || text[end..].chars().next().is_some_and(is_of_word))
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
                parts.push(Part::Text(&text[from..start]));
            }
            parts.push(Part::Token(token.id));
            from = end;
        }
        parts.push(Part::Text(&text[from..]));
    }
}

/// What regular expressions write as `\w`.
fn is_of_word(character: char) -> bool {
    regex_syntax::try_is_word_character(character).unwrap_or_else(|_| character.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut<'a>(tokens: &[AddedToken], text: &'a str, choice: &SpecialChoice) -> Result<Vec<Part<'a>>> {
        AddedTokens::new(tokens.to_vec())?.parts(text, choice)
    }

    #[test]
    fn a_text_is_cut_at_allowed_tokens() {
        let specials = [("<a>", 7), ("<a><b>", 8), ("<c>", 9)].map(|(content, id)| AddedToken::special(content, id));
        let of = |text, choice: SpecialChoice| cut(&specials, text, &choice);
        assert_eq!(
            of("x<a><b><a>y<c>", SpecialChoice::ALLOW).unwrap(),
            [
                Part::Text("x"),
                Part::Token(8),
                Part::Token(7),
                Part::Text("y"),
                Part::Token(9)
            ]
        );
        assert_eq!(of("x<a>", SpecialChoice::TEXT).unwrap(), [Part::Text("x<a>")]);
        assert_eq!(of("<c>", SpecialChoice::only(&["<c>"])).unwrap(), [Part::Token(9)]);
        let error = of("x<a><c>", SpecialChoice::only(&["<c>"])).unwrap_err().to_string();
        assert!(error.contains("<a> at byte 1"), "{error}");
        assert!(of("x<c>", SpecialChoice::RAISE).is_err());
        assert_eq!(of("", SpecialChoice::ALLOW).unwrap(), []);
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
        let parts = cut(&[normalized("ab", 0), plain("bc", 1)], "abcab", &SpecialChoice::ALLOW);
        assert_eq!(parts.unwrap(), [Part::Text("a"), Part::Token(1), Part::Token(0)]);
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

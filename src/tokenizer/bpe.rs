//! Byte-level BPE as it is used: GPT-2's and GPT-4's tokenizers, and those that are trained here.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use super::basic::{BYTES, Pair};
use super::byte_unicode::{from_characters, to_characters};
use super::ranks::Ranks;
use super::recover::recover_merge;
use super::{END_OF_TEXT, Pattern, train_merges};

/// Texts beyond this length, in bytes, are encoded on all of rayon's threads, in segments of this length.
const SEGMENT: usize = 1 << 18;

/// More ids than any tokenizer has; a file that names a higher one is broken.
const MOST_IDS: u32 = 1 << 24;

/// A byte-level BPE tokenizer. Any text is encoded and comes back the same.
///
/// ```
/// use mlx_gpt::tokenizer::{Bpe, Pattern};
///
/// let tokenizer = Bpe::train("low lower lowest", 256 + 4 + 1, Pattern::Gpt2, &["<|endoftext|>"], |_| ())?;
/// let ids = tokenizer.encode("lowest lows");
/// assert_eq!(tokenizer.decode_bytes(&ids)?, b"lowest lows");
/// assert_eq!(tokenizer.special_tokens()["<|endoftext|>"], 260);
/// # anyhow::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct Bpe {
    pattern: Pattern,
    ranks: Ranks,
    /// The bytes of each token by its id; empty where there is none.
    tokens: Vec<Box<[u8]>>,
    specials: BTreeMap<String, u32>,
}

impl Bpe {
    /// Learns a vocabulary of `vocab_size` tokens from `text`: the 256 bytes, merges, then `specials`. `progress` is told
    /// the number of merges after each.
    ///
    /// # Errors
    /// A vocabulary without room for the bytes and the special tokens, a special token that is empty or given twice, and
    /// a text that has not as many pairs to merge as asked for.
    pub fn train(
        text: &str,
        vocab_size: usize,
        pattern: Pattern,
        specials: &[&str],
        progress: impl FnMut(usize),
    ) -> Result<Self> {
        let fixed = BYTES as usize + specials.len();
        ensure!(
            vocab_size >= fixed,
            "a byte-level vocabulary of {vocab_size} is too small: the 256 bytes and {} special token(s) need {fixed}",
            specials.len()
        );
        ensure!(
            vocab_size <= MOST_IDS as usize,
            "a vocabulary of {vocab_size} is too large; at most {MOST_IDS} tokens are supported"
        );
        let merges = train_merges(text, pattern, vocab_size - fixed, progress);
        ensure!(
            merges.len() == vocab_size - fixed,
            "the text yields a vocabulary of {} tokens and no more, fewer than the {vocab_size} asked for; give more text or ask for fewer",
            fixed + merges.len()
        );
        Self::from_merges(&merges, pattern, specials)
    }

    /// The tokenizer of merges as [`train_merges`] gives them: bytes have the ids 0 to 255, merge `i` makes `256 + i`,
    /// and special tokens follow.
    ///
    /// # Errors
    /// A merge of tokens that don't exist yet, or as for [`new`](Self::new).
    pub fn from_merges(merges: &[Pair], pattern: Pattern, specials: &[&str]) -> Result<Self> {
        let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        for &(left, right) in merges {
            let part = |id: u32| {
                tokens
                    .get(id as usize)
                    .with_context(|| format!("merge {} needs token {id}, which is not made before it", tokens.len()))
            };
            let token = [part(left)?.as_slice(), part(right)?].concat();
            tokens.push(token);
        }
        let first = tokens.len() as u32;
        let tokens = tokens.into_iter().map(Vec::into_boxed_slice).zip(0..).collect();
        let specials = specials.iter().map(|&token| token.to_owned()).zip(first..).collect();
        Self::new(tokens, pattern, specials)
    }

    /// The tokenizer of tokens given by their bytes and ids, of which a lower id merges first, and of special tokens.
    ///
    /// # Errors
    /// A byte without token, an id or token that is there twice, a special token that is empty or an ordinary one too.
    pub fn new(tokens: Vec<(Box<[u8]>, u32)>, pattern: Pattern, specials: Vec<(String, u32)>) -> Result<Self> {
        let ids = tokens.iter().map(|(_, id)| id).chain(specials.iter().map(|(_, id)| id));
        let highest = ids.max().copied().unwrap_or(0);
        ensure!(highest < MOST_IDS, "token id {highest} is too high for any vocabulary");
        let ranks = Ranks::new(tokens.iter().map(|(token, id)| (&**token, *id)));
        if let Some(byte) = ranks.missing_byte() {
            anyhow::bail!("no token for the byte {byte:#04x}: a byte-level vocabulary needs all 256");
        }
        let mut by_id = vec![Box::<[u8]>::default(); highest as usize + 1];
        for (token, id) in tokens {
            ensure!(!token.is_empty(), "token {id} is empty");
            ensure!(by_id[id as usize].is_empty(), "two tokens have the id {id}");
            ensure!(
                ranks.get(&token) == Some(id),
                "token {} is there twice",
                String::from_utf8_lossy(&token)
            );
            by_id[id as usize] = token;
        }
        let mut named = BTreeMap::new();
        for (token, id) in specials {
            ensure!(!token.is_empty(), "a special token is empty");
            // tokenizer.json has one vocabulary for both, by how they are written.
            ensure!(
                from_characters(&token).is_none_or(|bytes| ranks.get(&bytes).is_none()),
                "special token {token} is an ordinary token too; choose one that no text merges into, like {END_OF_TEXT}"
            );
            ensure!(by_id[id as usize].is_empty(), "two tokens have the id {id}");
            by_id[id as usize] = token.as_bytes().into();
            if let Some((token, _)) = named.insert(token.clone(), id).map(|id| (token, id)) {
                anyhow::bail!("special token {token} is there twice");
            }
        }
        Ok(Self {
            pattern,
            ranks,
            tokens: by_id,
            specials: named,
        })
    }

    pub fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    pub fn special_tokens(&self) -> &BTreeMap<String, u32> {
        &self.specials
    }

    /// The ids of `text`; special tokens in it are text like any other. Long texts are encoded on all of rayon's threads,
    /// which changes no id.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        if text.len() <= SEGMENT {
            return self.encode_segment(text);
        }
        let segments: Vec<Vec<u32>> = Pattern::segments(text, SEGMENT)
            .into_par_iter()
            .map(|segment| self.encode_segment(segment))
            .collect();
        segments.concat()
    }

    fn encode_segment(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        for chunk in self.pattern.split(text) {
            self.ranks.encode_chunk(chunk.as_bytes(), &mut ids);
        }
        ids
    }

    /// The bytes of `ids`, which need not be UTF-8.
    ///
    /// # Errors
    /// An id that no token has.
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            let token = self.token_bytes(id).with_context(|| {
                format!(
                    "token id {id} is out of range; the tokenizer has {} tokens",
                    self.vocab_size()
                )
            })?;
            bytes.extend_from_slice(token);
        }
        Ok(bytes)
    }

    /// The bytes of a token; none where no token has the id.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.tokens
            .get(id as usize)
            .map(|token| &**token)
            .filter(|token| !token.is_empty())
    }

    /// Tokens that are not special, by id, with their bytes.
    pub fn ordinary_tokens(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (0u32..)
            .zip(&self.tokens)
            .map(|(id, token)| (id, &**token))
            .filter(|&(id, token)| self.ranks.get(token) == Some(id))
    }

    /// The merges in the order in which they were learned, recovered from the tokens alone.
    ///
    /// # Errors
    /// A token that merging its bytes does not lead to.
    pub fn merges(&self) -> Result<Vec<Pair>> {
        self.ordinary_tokens()
            .filter(|(_, token)| token.len() > 1)
            .map(|(id, token)| {
                recover_merge(&self.ranks, token, id)
                    .with_context(|| format!("token {id} is not made by a merge of two others"))
            })
            .collect()
    }

    /// The merges as files list them: two tokens in GPT-2's characters, a space between them.
    ///
    /// # Errors
    /// As [`merges`](Self::merges).
    pub fn written_merges(&self) -> Result<Vec<String>> {
        let written = |id: u32| to_characters(self.token_bytes(id).unwrap_or_default());
        let merges = self.merges()?.into_iter();
        Ok(merges
            .map(|(left, right)| format!("{} {}", written(left), written(right)))
            .collect())
    }
}

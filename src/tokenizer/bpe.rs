//! Byte-level BPE as it is used: GPT-2's and GPT-4's tokenizers, and those that are trained here.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use super::added::{AddedToken, AddedTokens, Segment, texts_between};
use super::byte_unicode::{bytes_to_unicode, unicode_to_bytes};
use super::ids;
use super::ranks::Ranks;
use super::recover::recover_merge;
use super::train::train_merges_of_texts;
use super::{BYTES, END_OF_TEXT, Pair, PreTokenizer, SpecialTokenPolicy};

/// Texts longer than this many bytes are encoded on all of rayon's threads, in segments of about this length.
const SEGMENT: usize = 1 << 18;

/// Limit of token ids, beyond what any tokenizer has; a file with a higher one is broken.
const MAX_TOKENS: u32 = 1 << 24;

/// A byte-level BPE tokenizer. Decoding an encoded text returns it unchanged.
///
/// ```
/// use mlx_gpt::tokenizer::{Bpe, Pattern};
///
/// let tokenizer = Bpe::train("low lower lowest", 256 + 4 + 1, Pattern::Gpt2, &["<|endoftext|>"], |_| ())?;
/// let ids = tokenizer.encode("lowest lows")?;
/// assert_eq!(tokenizer.decode_bytes(&ids)?, b"lowest lows");
/// assert_eq!(tokenizer.special_tokens()["<|endoftext|>"], 260);
/// # anyhow::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct Bpe {
    pre_tokenizer: PreTokenizer,
    /// A text, and the text after an added token, gets a space before it unless it has one.
    add_prefix_space: bool,
    ranks: Ranks,
    /// The bytes of each token by id; empty for unused ids.
    tokens: Vec<Box<[u8]>>,
    added: AddedTokens,
}

impl Bpe {
    /// Learns a vocabulary of up to `vocab_size` tokens from `text`: the 256 bytes, merges, then `specials`, at which the
    /// text is split. It has fewer tokens if the text has no more pairs to merge. `progress` is called with the number of
    /// merges after each.
    ///
    /// # Errors
    /// A vocabulary too small for the bytes and the special tokens, a special token that is empty or given twice, or as
    /// [`PreTokenizer::chunks`].
    pub fn train(
        text: &str,
        vocab_size: usize,
        pre_tokenizer: impl Into<PreTokenizer>,
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
            vocab_size <= MAX_TOKENS as usize,
            "a vocabulary of {vocab_size} is too large; at most {MAX_TOKENS} tokens are supported"
        );
        let pre_tokenizer = pre_tokenizer.into();
        let texts = texts_between(text, specials)?;
        let merges = train_merges_of_texts(&texts, &pre_tokenizer, vocab_size - fixed, progress)?;
        Self::from_merges(&merges, pre_tokenizer, specials)
    }

    /// The tokenizer of merges as [`train_merges`](super::train_merges) gives them: bytes have the ids 0 to 255, merge
    /// `i` makes `256 + i`, and special tokens follow.
    ///
    /// # Errors
    /// A merge of tokens that don't exist yet, or as for [`new`](Self::new).
    pub fn from_merges(merges: &[Pair], pre_tokenizer: impl Into<PreTokenizer>, specials: &[&str]) -> Result<Self> {
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
        let specials = specials.iter().zip(first..);
        let specials = specials.map(|(token, id)| AddedToken::special(token, id));
        Self::new(tokens, pre_tokenizer, specials.collect())
    }

    /// The tokenizer with these tokens, given by their bytes and ids, lower ids merging first, and these added tokens.
    ///
    /// # Errors
    /// A byte without a token, a duplicate id or token, an added token that is empty or is an ordinary token too.
    pub fn new(
        tokens: Vec<(Box<[u8]>, u32)>,
        pre_tokenizer: impl Into<PreTokenizer>,
        added: Vec<AddedToken>,
    ) -> Result<Self> {
        let ids = tokens
            .iter()
            .map(|(_, id)| id)
            .chain(added.iter().map(|token| &token.id));
        let highest = ids.max().copied().unwrap_or(0);
        ensure!(
            highest < MAX_TOKENS,
            "token id {highest} is too high for any vocabulary"
        );
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
                "token {} occurs twice",
                String::from_utf8_lossy(&token)
            );
            by_id[id as usize] = token;
        }
        let mut contents = BTreeSet::new();
        for AddedToken { content, id, .. } in &added {
            ensure!(!content.is_empty(), "a special token is empty");
            // tokenizer.json has one vocabulary for both, by how they are written.
            ensure!(
                unicode_to_bytes(content).is_none_or(|bytes| ranks.get(&bytes).is_none()),
                "special token {content} is an ordinary token too; choose one that no text merges into, like {END_OF_TEXT}"
            );
            ensure!(by_id[*id as usize].is_empty(), "two tokens have the id {id}");
            ensure!(contents.insert(content), "special token {content} occurs twice");
            by_id[*id as usize] = content.as_bytes().into();
        }
        Ok(Self {
            pre_tokenizer: pre_tokenizer.into(),
            add_prefix_space: false,
            ranks,
            tokens: by_id,
            added: AddedTokens::new(added)?,
        })
    }

    /// The same tokenizer with GPT-2's `add_prefix_space`: it puts a space before a text that begins with none.
    pub fn with_prefix_space(self, add_prefix_space: bool) -> Self {
        Self {
            add_prefix_space,
            ..self
        }
    }

    /// What splits a text into chunks.
    pub fn pre_tokenizer(&self) -> &PreTokenizer {
        &self.pre_tokenizer
    }

    /// Whether a text that begins with no space gets one.
    pub fn add_prefix_space(&self) -> bool {
        self.add_prefix_space
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The ids of the special tokens by their text.
    pub fn special_tokens(&self) -> &BTreeMap<String, u32> {
        self.added.specials()
    }

    /// The special and other added tokens.
    pub fn added_tokens(&self) -> &AddedTokens {
        &self.added
    }

    /// The ids of `text`; special tokens in it are ordinary text. Long texts are encoded on all of rayon's threads, with the
    /// same result.
    ///
    /// # Errors
    /// As [`PreTokenizer::chunks`]: none with a published pattern.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, &SpecialTokenPolicy::TEXT)
    }

    /// The ids of `text`, with special tokens handled as `policy` says.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), or a disallowed special token in the text.
    pub fn encode_with(&self, text: &str, policy: &SpecialTokenPolicy) -> Result<Vec<u32>> {
        if self.added.match_nothing(policy) {
            return self.encode_between(text);
        }
        let segments = self.added.split(text, policy)?;
        let encode = |segment: &Segment| match segment {
            Segment::Text(text) => self.encode_between(text),
            Segment::Token(id) => Ok(vec![*id]),
        };
        let ids: Vec<Vec<u32>> = if text.len() <= SEGMENT {
            segments.iter().map(encode).collect::<Result<_>>()?
        } else {
            segments.par_iter().map(encode).collect::<Result<_>>()?
        };
        Ok(ids.concat())
    }

    /// The ids of a text between added tokens.
    fn encode_between(&self, text: &str) -> Result<Vec<u32>> {
        if self.add_prefix_space && !text.is_empty() && !text.starts_with(' ') {
            return self.encode_segments(&format!(" {text}"));
        }
        self.encode_segments(text)
    }

    fn encode_segments(&self, text: &str) -> Result<Vec<u32>> {
        if text.len() <= SEGMENT {
            return self.encode_segment(text);
        }
        let segments: Vec<Vec<u32>> = self
            .pre_tokenizer
            .segments(text, SEGMENT)
            .into_par_iter()
            .map(|segment| self.encode_segment(segment))
            .collect::<Result<_>>()?;
        Ok(segments.concat())
    }

    fn encode_segment(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        match &self.pre_tokenizer {
            PreTokenizer::Pattern(pattern) => {
                for chunk in pattern.split(text) {
                    self.ranks.encode_chunk(chunk.as_bytes(), &mut ids);
                }
            }
            expression => {
                for chunk in expression.chunks(text)? {
                    self.ranks.encode_chunk(chunk.as_bytes(), &mut ids);
                }
            }
        }
        Ok(ids)
    }

    /// How each chunk of `text` is merged: the ids at first, a byte each, and after each merge. Special tokens in it are ordinary
    /// text.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn merge_steps(&self, text: &str) -> Result<Vec<Vec<Vec<u32>>>> {
        let chunks = self.pre_tokenizer.chunks(text)?;
        Ok(chunks
            .into_iter()
            .map(|chunk| self.steps_of(chunk.as_bytes()))
            .collect())
    }

    fn steps_of(&self, chunk: &[u8]) -> Vec<Vec<u32>> {
        let byte = |&byte: &u8| self.ranks.get(&[byte]);
        let mut ids: Vec<u32> = chunk.iter().filter_map(byte).collect();
        let mut steps = vec![ids.clone()];
        let bytes = |id: u32| self.token_bytes(id).unwrap_or_default();
        loop {
            let pairs = ids.windows(2).enumerate();
            let merged =
                pairs.filter_map(|(at, pair)| Some((self.ranks.get(&[bytes(pair[0]), bytes(pair[1])].concat())?, at)));
            let Some((id, at)) = merged.min() else { break };
            ids.splice(at..at + 2, [id]);
            steps.push(ids.clone());
        }
        // A chunk that is a token is that token, also where its merges lead elsewhere.
        steps.extend(self.ranks.get(chunk).map(|id| vec![id]).filter(|whole| *whole != ids));
        steps
    }

    /// The bytes of `ids`, which need not be UTF-8.
    ///
    /// # Errors
    /// An unknown id.
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            let token = self
                .token_bytes(id)
                .with_context(|| ids::unknown(id, self.vocab_size()))?;
            bytes.extend_from_slice(token);
        }
        Ok(bytes)
    }

    /// The bytes of a token; `None` for an unknown id.
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
    /// A token that is not the result of merging its bytes.
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
        let written = |id: u32| bytes_to_unicode(self.token_bytes(id).unwrap_or_default());
        let merges = self.merges()?.into_iter();
        Ok(merges
            .map(|(left, right)| format!("{} {}", written(left), written(right)))
            .collect())
    }

    /// As [`written_merges`](Self::written_merges), for tokens that merging their own bytes doesn't produce: every pair of
    /// tokens that makes a token, in the order of the ids of the results. Such tokens also match as a whole chunk.
    pub fn written_pairs(&self) -> Vec<String> {
        let pairs = self.ordinary_tokens().flat_map(|(_, token)| {
            let splits = (1..token.len()).map(|at| token.split_at(at));
            splits.filter(|&(left, right)| self.ranks.get(left).is_some() && self.ranks.get(right).is_some())
        });
        pairs
            .map(|(left, right)| format!("{} {}", bytes_to_unicode(left), bytes_to_unicode(right)))
            .collect()
    }
}

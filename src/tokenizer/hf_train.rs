//! Training by Hugging Face's `tokenizers`: Unigram, and BPE over characters as sentencepiece does it.
//!
//! Both see lines one by one, split into words that begin with their space, written `▁`. Characters that are not in the
//! vocabulary fall back to their bytes, so any text can be encoded, and decoding returns it unchanged but for `▁` itself,
//! which becomes a space.
//!
//! The library iterates over words, and over the characters that a vocabulary must have, in random order. `train_unigram`
//! and `train_sentencepiece` make the result a function of the text alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, anyhow, ensure};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::{
    AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Trainer,
};

use super::END_OF_TEXT;
use super::added::{AddedToken as Added, texts_between};
use super::guarded::guarded;
use super::hf_tokenizer::HfTokenizer;
use super::sentencepiece::WORST_SCORE;

/// The unknown token, which both models require; never used, as every byte has a token.
const UNKNOWN: &str = "<unk>";

/// The unknown token and the bytes.
const FIXED: usize = 1 + 256;

/// Distance between the scores of characters that are too rare for a Unigram model to learn.
const PENALTY: f64 = 0.0001;

/// A Unigram tokenizer of at most `vocab_size` tokens, including special ones, at which the text is split.
///
/// The library's sums depend on the order of the words and on their split among threads, so the words are sorted and it
/// gets one thread.
///
/// # Errors
/// A vocabulary too small for bytes, special tokens and the characters of the text; the library's errors.
pub fn train_unigram(text: &str, vocab_size: usize, specials: &[&str]) -> Result<HfTokenizer> {
    let room = room(vocab_size, specials)?;
    let words = words(text, specials)?;
    let characters = characters(&words);
    // Enough to spell the name of a byte, see `WORST_SCORE`.
    let alphabet: HashSet<char> = (' '..='~').collect();
    let needed = characters.keys().filter(|c| !alphabet.contains(c)).count() + alphabet.len();
    ensure!(
        needed <= room,
        "the text has {} different characters, each of which takes a token of a Unigram model: --vocab-size {vocab_size} must be at least {}; or use another --kind, which falls back to bytes for rare characters",
        characters.len(),
        vocab_size - room + needed
    );
    let trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size(u32::try_from(room + 1)?)
        .special_tokens(vec![AddedToken::from(UNKNOWN, true)])
        .unk_token(Some(UNKNOWN.to_owned()))
        .initial_alphabet(alphabet.iter().copied().collect())
        .build()
        .map_err(|error| anyhow!("{error}"))?;
    let one_thread = ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut model = Unigram::default();
    if words.is_empty() {
        // The library rejects an empty list; all characters are equally likely then.
        let score = -(alphabet.len() as f64).ln();
        let pieces = alphabet.iter().map(|character| (character.to_string(), score));
        let pieces = std::iter::once((UNKNOWN.to_owned(), 0.0)).chain(pieces);
        model = Unigram::from(pieces.collect(), Some(0), false).map_err(|error| anyhow!("{error}"))?;
    } else {
        one_thread.install(|| guarded(|| trainer.do_train(words, &mut model)))?;
    }
    let mut model = serde_json::to_value(&model)?;
    let vocab = model["vocab"]
        .as_array_mut()
        .context("the trained model has no vocabulary")?;
    let learned = in_order(vocab.drain(1..).collect(), &characters);
    vocab.extend((0..=u8::MAX).map(|byte| json!([byte_token(byte), WORST_SCORE])));
    vocab.extend(learned.into_iter().map(|(piece, score)| json!([piece, score])));
    let size = vocab.len();
    model["byte_fallback"] = json!(true);
    assemble(model, size, specials)
}

/// A Unigram model's pieces in the order of their scores.
///
/// The library gives characters that are too rare to be learned the lowest scores, [`PENALTY`] apart, in random order. Here
/// the more frequent ones get the higher scores.
fn in_order(vocab: Vec<Value>, counts: &BTreeMap<char, u64>) -> Vec<(String, f64)> {
    let piece = |entry: &Value| Some((entry[0].as_str()?.to_owned(), entry[1].as_f64()?));
    let mut pieces: Vec<(String, f64)> = vocab.iter().filter_map(piece).collect();
    let lowest = pieces.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let mut penalty = 0.0;
    let penalties: HashSet<u64> = pieces
        .iter()
        .map(|_| {
            let score = lowest + penalty;
            penalty += PENALTY;
            score.to_bits()
        })
        .collect();
    let character = |piece: &str| {
        let mut characters = piece.chars();
        characters.next().filter(|_| characters.next().is_none())
    };
    let (mut rare, learned): (Vec<_>, Vec<_>) = pieces
        .drain(..)
        .partition(|(piece, score)| character(piece).is_some() && penalties.contains(&score.to_bits()));
    let mut scores: Vec<f64> = rare.iter().map(|(_, score)| *score).collect();
    scores.sort_by(f64::total_cmp);
    rare.sort_by_cached_key(|(piece, _)| {
        let count = character(piece).and_then(|c| counts.get(&c)).copied();
        (count.unwrap_or(0), std::cmp::Reverse(piece.clone()))
    });
    let rare = rare.into_iter().zip(scores).map(|((piece, _), score)| (piece, score));
    let mut pieces: Vec<(String, f64)> = learned.into_iter().chain(rare).collect();
    pieces.sort_by(|(piece, score), (other, other_score)| other_score.total_cmp(score).then(piece.cmp(other)));
    pieces
}

/// A BPE tokenizer over characters, with byte fallback, of at most `vocab_size` tokens, including special ones, at which the
/// text is split.
///
/// The library removes the rarest characters in random order, so they are removed here first: words are split at them.
///
/// # Errors
/// A vocabulary too small for bytes and special tokens; the library's errors.
pub fn train_sentencepiece(text: &str, vocab_size: usize, specials: &[&str]) -> Result<HfTokenizer> {
    let fixed = std::iter::once(UNKNOWN.to_owned()).chain((0..=u8::MAX).map(byte_token));
    let room = room(vocab_size, specials)?;
    let words = words(text, specials)?;
    // Rare characters fall back to their bytes: an alphabet of thousands would leave no room for merges.
    let mut frequent: Vec<(char, u64)> = characters(&words).into_iter().collect();
    frequent.sort_by_key(|&(character, count)| (std::cmp::Reverse(count), character));
    let alphabet: BTreeSet<char> = frequent.into_iter().map(|(c, _)| c).take(room / 4).collect();
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(FIXED + room)
        .special_tokens(fixed.map(|token| AddedToken::from(token, true)).collect())
        .build();
    let splitter = Splitter::new()?;
    let texts = texts_between(text, specials)?;
    guarded(|| {
        trainer.feed(texts.iter().flat_map(|text| lines(text)), |line| {
            let words = splitter.words(line)?;
            let parts = words.iter().flat_map(|word| word.split(|c| !alphabet.contains(&c)));
            Ok(parts.filter(|part| !part.is_empty()).map(str::to_owned).collect())
        })
    })?;
    let mut model = BPE::default();
    guarded(|| trainer.train(&mut model))?;
    let mut model = serde_json::to_value(&model)?;
    let size = model["vocab"].as_object().map_or(0, serde_json::Map::len);
    model["unk_token"] = json!(UNKNOWN);
    model["fuse_unk"] = json!(true);
    model["byte_fallback"] = json!(true);
    assemble(model, size, specials)
}

/// The words of a text between special tokens, sorted, with their counts. A NUL ends a word, as it does in the library.
fn words(text: &str, specials: &[&str]) -> Result<Vec<(String, u32)>> {
    let splitter = Splitter::new()?;
    let texts = texts_between(text, specials)?;
    let lines: Vec<&str> = texts.iter().flat_map(|text| lines(text)).collect();
    let counts = lines
        .par_iter()
        .try_fold(HashMap::<String, u32>::new, |mut counts, line| {
            for word in splitter.words(line).map_err(|error| anyhow!("{error}"))? {
                let count = counts.entry(word).or_default();
                *count = count.saturating_add(1);
            }
            anyhow::Ok(counts)
        })
        .try_reduce(HashMap::new, |mut all, some| {
            for (word, count) in some {
                let sum = all.entry(word).or_default();
                *sum = sum.saturating_add(count);
            }
            Ok(all)
        })?;
    let mut words: Vec<(String, u32)> = counts.into_iter().collect();
    words.sort_unstable();
    Ok(words)
}

/// The lines of a text, with their line ends; a NUL also ends a line, and is left out.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.split_inclusive('\n').flat_map(|line| line.split('\0'));
    lines.filter(|line| !line.is_empty())
}

/// Splits lines into words.
struct Splitter(PreTokenizerWrapper);

impl Splitter {
    fn new() -> Result<Self> {
        Ok(Self(serde_json::from_value(pre_tokenizer())?))
    }

    fn words(&self, line: &str) -> tokenizers::Result<Vec<String>> {
        let mut line = PreTokenizedString::from(line);
        self.0.pre_tokenize(&mut line)?;
        let words = line.get_splits(OffsetReferential::Original, OffsetType::Byte);
        Ok(words.into_iter().map(|(word, ..)| word.to_owned()).collect())
    }
}

/// Counts of characters.
fn characters(words: &[(String, u32)]) -> BTreeMap<char, u64> {
    let mut counts = BTreeMap::new();
    for (word, count) in words {
        for character in word.chars() {
            *counts.entry(character).or_default() += u64::from(*count);
        }
    }
    counts
}

/// Number of tokens left to learn.
fn room(vocab_size: usize, specials: &[&str]) -> Result<usize> {
    let fixed = FIXED + specials.len();
    ensure!(
        vocab_size > fixed,
        "a vocabulary of {vocab_size} is too small: the 256 bytes, {UNKNOWN} and {} special token(s) take {fixed} of it; choose at least {}",
        specials.len(),
        fixed + 1
    );
    let different: HashSet<_> = specials.iter().collect();
    ensure!(different.len() == specials.len(), "a special token is given twice");
    ensure!(
        specials.iter().all(|token| !token.is_empty()),
        "a special token is empty"
    );
    Ok(vocab_size - fixed)
}

fn byte_token(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

fn pre_tokenizer() -> Value {
    json!({
        "type": "Sequence",
        "pretokenizers": [
            { "type": "Split", "pattern": { "String": "\n" }, "behavior": "Isolated", "invert": false },
            { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": true }
        ]
    })
}

/// The tokenizer of a trained model of `size` tokens; `specials` get the ids after them.
fn assemble(model: Value, size: usize, specials: &[&str]) -> Result<HfTokenizer> {
    let added_tokens: Vec<Value> = (size as u32..)
        .zip(specials)
        .map(|(id, token)| Added::special(token, id).to_json())
        .collect();
    for token in specials {
        let is_ordinary = match &model["vocab"] {
            Value::Array(scored) => scored.iter().any(|entry| entry[0] == **token),
            vocab => vocab.get(token).is_some(),
        };
        ensure!(
            !is_ordinary,
            "special token {token} is an ordinary token too; choose one that is no word, like {END_OF_TEXT}"
        );
    }
    HfTokenizer::from_json(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer(),
        "post_processor": null,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
                { "type": "ByteFallback" },
                { "type": "Fuse" }
            ]
        },
        "model": model
    }))
}

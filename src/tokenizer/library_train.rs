//! Training by Hugging Face's `tokenizers`: Unigram, and BPE over characters as sentencepiece does it.
//!
//! Both see words that begin with their space, written `▁`, and lines apart. Characters that are not in the vocabulary
//! fall back to their bytes, so any text can be encoded, and comes back as it was but for `▁` itself, which becomes a
//! space.

use std::collections::HashSet;

use anyhow::{Result, anyhow, ensure};
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::{AddedToken, Model, ModelWrapper, PreTokenizerWrapper, Trainer};

use super::END_OF_TEXT;
use super::hugging_face::added_token;
use super::library::Library;

/// The token for what cannot be written: never needed, as every byte has a token, but both models ask for one.
const UNKNOWN: &str = "<unk>";

/// The unknown token and the bytes.
const FIXED: usize = 1 + 256;

/// A score that any other way to write a text beats, so that `<0x41>` in a text is never taken for the byte.
const WORST_SCORE: f64 = -10_000.0;

/// A Unigram tokenizer of at most `vocab_size` tokens, special ones included.
///
/// # Errors
/// A vocabulary without room for bytes and special tokens, and what the library refuses.
pub fn train_unigram(text: &str, vocab_size: usize, specials: &[&str]) -> Result<Library> {
    let trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size(u32::try_from(pieces(vocab_size, specials)? + 1)?)
        .special_tokens(vec![AddedToken::from(UNKNOWN, true)])
        .unk_token(Some(UNKNOWN.to_owned()))
        // Enough to spell the name of a byte, see `WORST_SCORE`.
        .initial_alphabet((' '..='~').collect())
        .build()
        .map_err(|error| anyhow!("{error}"))?;
    let mut model = train(Unigram::default(), trainer, text)?;
    let vocab = model["vocab"]
        .as_array_mut()
        .ok_or_else(|| anyhow!("the trained model has no vocabulary"))?;
    vocab.splice(1..1, (0..=u8::MAX).map(|byte| json!([byte_token(byte), WORST_SCORE])));
    let size = vocab.len();
    model["byte_fallback"] = json!(true);
    assemble(model, size, specials)
}

/// A BPE tokenizer over characters, with byte fallback, of at most `vocab_size` tokens, special ones included.
///
/// # Errors
/// A vocabulary without room for bytes and special tokens, and what the library refuses.
pub fn train_sentencepiece(text: &str, vocab_size: usize, specials: &[&str]) -> Result<Library> {
    let fixed = std::iter::once(UNKNOWN.to_owned()).chain((0..=u8::MAX).map(byte_token));
    // Rare characters are left to their bytes: an alphabet of thousands would leave no room for merges.
    let room = pieces(vocab_size, specials)?;
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(FIXED + room)
        .limit_alphabet(room / 4)
        .special_tokens(fixed.map(|token| AddedToken::from(token, true)).collect())
        .build();
    let mut model = train(BPE::default(), trainer, text)?;
    let size = model["vocab"].as_object().map_or(0, serde_json::Map::len);
    model["unk_token"] = json!(UNKNOWN);
    model["fuse_unk"] = json!(true);
    model["byte_fallback"] = json!(true);
    assemble(model, size, specials)
}

/// The room that is left for learned tokens.
fn pieces(vocab_size: usize, specials: &[&str]) -> Result<usize> {
    let fixed = FIXED + specials.len();
    ensure!(
        vocab_size > fixed,
        "a vocabulary of {vocab_size} is too small: the 256 bytes, {UNKNOWN} and {} special token(s) need {fixed}",
        specials.len()
    );
    let different: HashSet<_> = specials.iter().collect();
    ensure!(different.len() == specials.len(), "a special token is given twice");
    ensure!(
        specials.iter().all(|token| !token.is_empty()),
        "a special token is empty"
    );
    Ok(vocab_size - fixed)
}

/// Trains the model on the text's lines, and gives it as `tokenizer.json` has it.
fn train<M, T>(model: M, mut trainer: T, text: &str) -> Result<Value>
where
    M: Model + Into<ModelWrapper> + serde::Serialize + Send + Sync,
    T: Trainer<Model = M> + Sync,
{
    let pre_tokenizer: PreTokenizerWrapper = serde_json::from_value(pre_tokenizer())?;
    let mut model = model;
    trainer
        .feed(text.split_inclusive('\n'), |line| {
            let mut line = tokenizers::PreTokenizedString::from(line);
            tokenizers::PreTokenizer::pre_tokenize(&pre_tokenizer, &mut line)?;
            let words = line.get_splits(tokenizers::OffsetReferential::Original, tokenizers::OffsetType::Byte);
            Ok(words.into_iter().map(|(word, ..)| word.to_owned()).collect())
        })
        .map_err(|error| anyhow!("{error}"))?;
    trainer.train(&mut model).map_err(|error| anyhow!("{error}"))?;
    Ok(serde_json::to_value(&model)?)
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

/// The tokenizer of a model; `special` tokens take the ids after the model's own `size`.
fn assemble(model: Value, size: usize, specials: &[&str]) -> Result<Library> {
    let added_tokens: Vec<Value> = (size as u32..)
        .zip(specials)
        .map(|(id, token)| added_token(token, id))
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
    Library::from_json(json!({
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

//! The tokens that begin and end a text: those that the model's files name, or, where they name none, the tokenizer's own.

use crate::config::{Boundaries, ModelConfig};
use crate::tokenizer::Tokenizer;

/// The tokens after which a text ends.
pub fn end_tokens(model: &ModelConfig, tokenizer: &Tokenizer) -> Vec<u32> {
    match &model.boundaries.eos[..] {
        [] => tokenizer.end_of_text().into_iter().collect(),
        named => named.to_vec(),
    }
}

/// The token with which a text begins, if there is one.
pub fn begin_token(model: &ModelConfig, tokenizer: &Tokenizer) -> Option<u32> {
    let Boundaries { bos, eos } = &model.boundaries;
    bos.or_else(|| tokenizer.end_of_text().filter(|_| eos.is_empty()))
}

/// What a text begins with when its writer says nothing.
pub fn default_prompt(model: &ModelConfig, tokenizer: &Tokenizer) -> Vec<u32> {
    match model.boundaries.bos {
        Some(bos) => vec![bos],
        None => tokenizer.default_prompt(),
    }
}

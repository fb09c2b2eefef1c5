//! Bos and eos tokens: from the model's files, falling back to the tokenizer's.

use crate::config::{BosEos, ModelConfig};
use crate::tokenizer::Tokenizer;

/// The eos tokens.
pub fn eos_tokens(model: &ModelConfig, tokenizer: &Tokenizer) -> Vec<u32> {
    match &model.bos_eos.eos[..] {
        [] => tokenizer.eos_token().into_iter().collect(),
        named => named.to_vec(),
    }
}

/// The bos token: the model's; or else the tokenizer's end-of-text token, which GPT-2 also begins texts with. A model whose
/// files name an eos token and no bos token has none.
pub fn bos_token(model: &ModelConfig, tokenizer: &Tokenizer) -> Option<u32> {
    let BosEos { bos, eos } = &model.bos_eos;
    bos.or_else(|| tokenizer.eos_token().filter(|_| eos.is_empty()))
}

/// The default prompt: the bos token, or else the tokenizer's default.
pub fn default_prompt(model: &ModelConfig, tokenizer: &Tokenizer) -> Vec<u32> {
    match model.bos_eos.bos {
        Some(bos) => vec![bos],
        None => tokenizer.default_prompt(),
    }
}

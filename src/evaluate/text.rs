//! The exact loss of a model on a text.

use anyhow::{Result, ensure};

use super::{Evaluation, Evaluator};
use crate::checkpoint::Checkpoint;
use crate::data::dataset::SplitTokens;
use crate::data::tokens::Tokens;
use crate::data::windows::{batches, windows};
use crate::model::parameters::Parameters;

/// The exact loss of a checkpoint's model on all tokens of `part` but the first, in windows of its context that start
/// `stride` tokens apart; and bits per byte of the predicted text, where its size is known. `progress` is called with the
/// number of newly predicted tokens.
///
/// # Errors
/// Fewer than two tokens, a token id outside the vocabulary, or a stride that leaves tokens out.
pub fn evaluate_checkpoint(
    checkpoint: &Checkpoint,
    part: &SplitTokens,
    stride: usize,
    progress: impl FnMut(usize),
) -> Result<(Evaluation, Option<f64>)> {
    let context = checkpoint.model.context;
    ensure!(
        (1..=context).contains(&stride),
        "stride is {stride}; it must be from 1 to the model's context, {context}, or tokens would be left out"
    );
    ensure!(
        part.tokens.len() > 1,
        "there is nothing to evaluate: at least two tokens are needed"
    );
    let mut evaluator = Evaluator::of_checkpoint(checkpoint)?;
    let total = evaluate_tokens(&mut evaluator, &checkpoint.parameters, &part.tokens, stride, progress)?;
    let bits_per_byte = part.bytes.map(|bytes| {
        let mut first = Vec::new();
        part.tokens.read(0, 1, &mut first);
        // The first token is not predicted.
        let unpredicted = checkpoint
            .tokenizer
            .token_bytes(first[0])
            .map_or(0, |bytes| bytes.len() as u64);
        total.bits_per_byte(bytes.saturating_sub(unpredicted))
    });
    Ok((total, bits_per_byte))
}

/// As [`evaluate_checkpoint`], of a model on `tokens`, with a `stride` from 1 to the context.
///
/// # Errors
/// A token id outside the vocabulary.
pub fn evaluate_tokens(
    evaluator: &mut Evaluator,
    parameters: &Parameters,
    tokens: &Tokens,
    stride: usize,
    mut progress: impl FnMut(usize),
) -> Result<Evaluation> {
    let context = evaluator.model.context;
    let windows = windows(tokens.len(), context, stride);
    let mut total = Evaluation::default();
    let mut batches = batches(tokens, windows, evaluator.rows(context));
    loop {
        let (windows, batches): (Vec<_>, Vec<_>) = batches.by_ref().take(evaluator.batches_at_once()).unzip();
        if batches.is_empty() {
            return Ok(total);
        }
        let before = total.tokens;
        for (windows, losses) in windows.iter().zip(evaluator.losses(parameters, batches)?) {
            for (window, losses) in windows.iter().zip(losses.chunks(losses.len() / windows.len())) {
                total.add(&losses[window.overlap..]);
            }
        }
        progress(total.tokens - before);
    }
}

//! The exact loss on a text.

use anyhow::{Result, ensure};

use super::{Evaluation, Evaluator, batch_rows};
use crate::checkpoint::Checkpoint;
use crate::data::dataset::Part;
use crate::data::windows::{batches, windows};

/// The exact loss of a checkpoint's model on all tokens of `part` but the first, in windows of its context that begin
/// `stride` tokens apart; and bits per byte of the text that was predicted, where its size is known. `progress` hears
/// how many tokens each batch predicted.
///
/// # Errors
/// Fewer than two tokens, tokens that the model's vocabulary has not, or a stride that leaves tokens out.
pub fn measure(
    checkpoint: &Checkpoint,
    part: &Part,
    stride: usize,
    mut progress: impl FnMut(usize),
) -> Result<(Evaluation, Option<f64>)> {
    let (context, vocab_size) = (checkpoint.model.context, checkpoint.model.vocab_size);
    ensure!(
        (1..=context).contains(&stride),
        "stride is {stride}; it must be from 1 to the model's context, {context}, or tokens would be left out"
    );
    ensure!(
        part.tokens.len() > 1,
        "there is nothing to evaluate: at least two tokens are needed"
    );
    let windows = windows(part.tokens.len(), context, stride);
    let mut evaluator = Evaluator::new(&checkpoint.model, checkpoint.parameters.names());
    let mut total = Evaluation::default();
    for (windows, batch) in batches(&part.tokens, windows, batch_rows(vocab_size, context)) {
        let losses = evaluator.losses(&checkpoint.parameters, &batch)?;
        let before = total.tokens;
        for (window, losses) in windows.iter().zip(losses.chunks(batch.context())) {
            total.add(&losses[window.seen..]);
        }
        progress(total.tokens - before);
    }
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

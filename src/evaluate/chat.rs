//! How well a model answers in conversations: the exact loss on all answers, and how many of the last ones it gives exactly.

use anyhow::{Context, Result, ensure};

use super::task::Score;
use super::{Evaluation, Evaluator};
use crate::checkpoint::Checkpoint;
use crate::data::conversations::{Conversation, ConversationRows, Conversations};
use crate::data::corpus::Split;
use crate::tokenizer::chat::{ChatTemplate, ChatTokens, fit};

/// The chat template of a checkpoint.
///
/// # Errors
/// It has none.
pub fn template(checkpoint: &Checkpoint) -> Result<&ChatTemplate> {
    checkpoint.chat_template.as_ref().with_context(|| {
        format!(
            "{} has no chat template: it was not trained on conversations; give a model of `mlx-gpt train --chat`",
            checkpoint.folder.display()
        )
    })
}

/// The rows of a split's conversations for a checkpoint's model.
///
/// # Errors
/// A model without a chat template; as [`ConversationRows::new`].
pub fn rows(checkpoint: &Checkpoint, conversations: &Conversations, split: Split) -> Result<ConversationRows> {
    let (template, context) = (template(checkpoint)?, checkpoint.model.context);
    ConversationRows::new(conversations, split, template, &checkpoint.tokenizer, context)
}

/// The exact loss on the tokens of all answers, each with the end of its turn. `progress` is called with the number of newly
/// evaluated conversations.
///
/// # Errors
/// An error of MLX's.
pub fn loss(checkpoint: &Checkpoint, rows: &ConversationRows, mut progress: impl FnMut(usize)) -> Result<Evaluation> {
    let mut evaluator = Evaluator::of_checkpoint(checkpoint)?;
    let context = checkpoint.model.context;
    let batches = rows.eval_batches(rows.count(), evaluator.rows(context), context);
    let mut total = Evaluation::default();
    for batches in batches.chunks(evaluator.batches_at_once()) {
        let part = evaluator.evaluate(&checkpoint.parameters, batches.iter().cloned())?;
        total.total_nll += part.total_nll;
        total.tokens += part.tokens;
        progress(batches.iter().map(|batch| batch.rows).sum());
    }
    Ok(total)
}

/// Which last answers of a split's conversations the model gives exactly, by greedy decoding after all that was said before, in
/// the order of the file. `progress` is called with the number of newly answered ones.
///
/// # Errors
/// A model without a chat template or an eos token; a conversation that the template refuses, or whose last question is longer
/// than the context.
pub fn last_answers(
    checkpoint: &Checkpoint,
    conversations: &Conversations,
    split: Split,
    progress: impl FnMut(usize),
) -> Result<(Score, Vec<(usize, String)>)> {
    let (template, tokenizer) = (template(checkpoint)?, &checkpoint.tokenizer);
    let ends = checkpoint.eos_tokens();
    ensure!(
        !ends.is_empty(),
        "the model has no eos token, so that its answers have no end"
    );
    let question = |conversation: &Conversation| {
        let ChatTokens { ids, answers } = template.encode_answers(tokenizer, &conversation.messages)?;
        let last = answers.last().cloned().unwrap_or_default();
        let expected: Vec<u32> = ids[last].iter().copied().take_while(|id| !ends.contains(id)).collect();
        let said = &conversation.messages;
        let before = said
            .iter()
            .rposition(|message| message.role == crate::tokenizer::chat::Role::Assistant);
        let said = &said[..before.unwrap_or(0)];
        let context = checkpoint.model.context;
        // Room for the right answer; a wrong one may be longer than that.
        let prompt = fit(template, tokenizer, said, context, expected.len().min(context / 4))?;
        anyhow::Ok((conversation.line, prompt.ids, tokenizer.decode(&expected)?))
    };
    let (mut lines, mut prompts, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for conversation in conversations.of(split) {
        let named = || format!("{}, line {}", conversations.path, conversation.line);
        let (line, prompt, answer) = question(conversation).with_context(named)?;
        lines.push(line);
        prompts.push(prompt);
        expected.push(answer);
    }
    let answers = checkpoint.generator()?.greedy(&prompts, &ends, progress)?;
    let (mut score, mut wrong) = (Score::default(), Vec::new());
    for ((line, expected), answer) in lines.into_iter().zip(expected).zip(answers) {
        let answer = tokenizer.decode(&answer)?;
        score.add(answer == expected);
        if answer != expected {
            wrong.push((line, answer));
        }
    }
    Ok((score, wrong))
}

//! Where the rows of training batches come from. Each kind of data is a source behind the same batches, and each batch a pure
//! function of the random numbers of its step.

use rand_chacha::ChaCha8Rng;

use super::batches::{self, Batch};
use super::conversations::ConversationRows;
use super::preferences::Pairs;
use super::tasks::TaskRows;
use super::tokens::Tokens;

/// A split of the training data.
pub enum Source {
    /// Rows that begin anywhere in a text.
    Text(Tokens),
    /// Rows of problems that are made on the fly.
    Task(Box<TaskRows>),
    /// Preference pairs, a row for each answer.
    Pairs(Pairs),
    /// Conversations, each of which is a row.
    Chat(ConversationRows),
}

impl Source {
    /// Random rows of `context` tokens, with their targets.
    pub fn batch(&self, rng: &mut ChaCha8Rng, rows: usize, context: usize) -> Batch {
        match self {
            Self::Text(tokens) => {
                let starts = batches::row_starts(rng, rows, tokens.len(), context);
                Batch::gather(tokens, &starts, context)
            }
            Self::Task(problems) => problems.batch(rng, rows, context),
            Self::Pairs(pairs) => pairs.batch(&pairs.draw(rng, rows / 2), context),
            Self::Chat(conversations) => conversations.batch(rng, rows, context),
        }
    }

    /// Where in the text the rows of [`batch`](Self::batch) begin; empty where there is no text.
    pub fn row_starts(&self, rng: &mut ChaCha8Rng, rows: usize, context: usize) -> Vec<usize> {
        match self {
            Self::Text(tokens) => batches::row_starts(rng, rows, tokens.len(), context),
            Self::Task(_) | Self::Pairs(_) | Self::Chat(_) => Vec::new(),
        }
    }

    /// Batches of `rows` rows or fewer, `count` rows in all or as many as there are, the same at every evaluation.
    pub fn eval_batches(&self, count: usize, rows: usize, context: usize) -> Vec<Batch> {
        match self {
            Self::Text(tokens) => batches::eval_batches(tokens, count, rows, context).collect(),
            Self::Task(problems) => problems.eval_batches(count, rows, context),
            Self::Pairs(pairs) => {
                let chosen = pairs.evenly_spaced(count / 2);
                let batches = chosen.chunks((rows / 2).max(1));
                batches.map(|indices| pairs.batch(indices, context)).collect()
            }
            Self::Chat(conversations) => conversations.eval_batches(count, rows, context),
        }
    }

    /// Its preference pairs, if it has any.
    pub fn pairs(&self) -> Option<&Pairs> {
        match self {
            Self::Pairs(pairs) => Some(pairs),
            Self::Text(_) | Self::Task(_) | Self::Chat(_) => None,
        }
    }

    /// The tokens of its text, if it has one.
    pub fn tokens(&self) -> Option<&Tokens> {
        match self {
            Self::Text(tokens) => Some(tokens),
            Self::Task(_) | Self::Pairs(_) | Self::Chat(_) => None,
        }
    }

    /// Its conversations, if it has any.
    pub fn conversations(&self) -> Option<&ConversationRows> {
        match self {
            Self::Chat(conversations) => Some(conversations),
            Self::Text(_) | Self::Task(_) | Self::Pairs(_) => None,
        }
    }
}

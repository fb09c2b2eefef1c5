//! `mlx-gpt eval` on conversations.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::checkpoint::Checkpoint;
use crate::data::conversations::Conversations;
use crate::data::corpus::Split;
use crate::data::dataset::{CorpusRecord, Dataset};
use crate::evaluate::chat::{last_answers, loss, rows};
use crate::terminal::console::{self, say};
use crate::terminal::escape::visible;
use crate::terminal::progress::{Progress, Unit};

/// Wrong answers that are shown.
const SHOWN: usize = 5;

/// What to evaluate.
pub struct ChatEvaluation<'a> {
    /// The file of --chat, if it was given.
    pub given: Option<&'a str>,
    /// The file that the run was trained on, if it was trained on conversations.
    pub trained_on: Option<&'a str>,
    /// Identifies what the run was trained on, if that is known.
    pub record: Option<&'a CorpusRecord>,
    pub split: Option<Split>,
    /// Whether last answers are to be compared too.
    pub accuracy: bool,
    pub json: bool,
}

impl ChatEvaluation<'_> {
    /// Prints the loss on the answers, and how many of the last ones are right.
    ///
    /// # Errors
    /// A file that cannot be read, or has changed since the run was trained on it; a model without a chat template.
    pub fn run(&self, checkpoint: &Checkpoint) -> Result<()> {
        let path = self.given.or(self.trained_on).unwrap_or_default();
        let dataset = Dataset::Chat(Conversations::read(path)?);
        let is_training_file = self.record == Some(&dataset.record()?);
        ensure!(
            is_training_file || self.given.is_some(),
            "{path} has changed since the run was trained on it; give a file with --chat"
        );
        let Dataset::Chat(conversations) = dataset else {
            return Ok(());
        };
        ensure!(
            is_training_file || self.split.is_none_or(|split| split == Split::All) || self.record.is_none(),
            "{path} is not what the run was trained on, so it has no train/val split; leave --split out"
        );
        let default = if is_training_file { Split::Val } else { Split::All };
        let split = self.split.unwrap_or(default);
        let rows = rows(checkpoint, &conversations, split)?;
        ensure!(
            rows.count() > 0,
            "{path}: that part has no conversation; give --split all"
        );
        if let Some(note) = rows.note() {
            say(format_args!("note: {path}: {note}"));
        }
        let count = rows.count();
        let bar = Progress::new("measuring", count as u64, Unit::Of("conversations"));
        let loss = loss(checkpoint, &rows, |rows| bar.inc(rows as u64))?;
        drop(bar);
        let mut output = json!({
            "loss": loss.loss(),
            "perplexity": loss.perplexity(),
            "tokens": loss.tokens,
            "conversations": count,
        });
        let mut lines = format!(
            "loss           {:.4} nats per token of the answers\nperplexity     {:.4}\ntokens         {}\nconversations  {count}\n",
            loss.loss(),
            loss.perplexity(),
            loss.tokens
        );
        if self.accuracy {
            let bar = Progress::new("answering", count as u64, Unit::Of("questions"));
            let (score, wrong) = last_answers(checkpoint, &conversations, split, |count| bar.inc(count as u64))?;
            drop(bar);
            output["accuracy"] = score.accuracy().into();
            output["correct"] = score.correct.into();
            output["answers"] = score.problems.into();
            lines += &format!(
                "accuracy       {:.4}  {} of {} last answers are exactly right\n",
                score.accuracy(),
                score.correct,
                score.problems
            );
            for (line, answer) in wrong.iter().take(SHOWN) {
                say(format_args!("line {line}: the model answers {}", visible(answer)));
            }
        }
        match self.json {
            true => console::print(format_args!("{output}\n")),
            false => console::print(lines),
        }
    }
}

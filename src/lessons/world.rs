//! The small world of day 13: the conversations that `scripts/conversations.py` makes, in the program, and how many of the test's
//! last questions a model answers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use serde::Deserialize;

use super::results::Accuracy;
use crate::checkpoint::Checkpoint;
use crate::data::conversations::Conversations;
use crate::data::corpus::Split;
use crate::disk::durable;
use crate::evaluate::chat::{last_answers, loss, rows};
use crate::evaluate::task::Score;
use crate::tokenizer::chat::Message;

/// The conversations that are trained on, below the folder of lessons.
pub const TRAIN: &str = "day-13-world/train.jsonl";
/// Those of the test, whose wordings, sums and names are never trained on.
pub const TEST: &str = "day-13-world/test.jsonl";

/// Conversations of the sample.
const SAMPLED: usize = 6;

/// A line of a file.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// What kind of question the last one is.
    pub kind: String,
    /// What is said.
    pub messages: Vec<Message>,
}

/// The text of [`TRAIN`] or [`TEST`].
///
/// # Errors
/// None.
pub fn text(file: &str) -> Result<String> {
    let compressed: &[u8] = match file {
        TRAIN => include_bytes!("../../assets/world/train.jsonl.gz"),
        _ => include_bytes!("../../assets/world/test.jsonl.gz"),
    };
    let mut text = String::new();
    GzDecoder::new(compressed).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes both files below the folder of lessons, unless they are there, so that other commands can read them.
///
/// # Errors
/// They cannot be written.
pub fn write(root: &Path) -> Result<()> {
    for file in [TRAIN, TEST] {
        let (path, text) = (root.join(file), text(file)?);
        if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            continue;
        }
        let _made = durable::make_parents(&path)?;
        durable::write_file(&path, text.as_bytes())?;
    }
    Ok(())
}

/// The lines of a file's text.
///
/// # Errors
/// None for those of the program.
pub fn lines(text: &str) -> Result<Vec<Line>> {
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// How well a model answers the first conversations of the test.
pub struct Answers {
    /// How many of their last answers are exactly right, of all and of each kind.
    pub accuracy: Accuracy,
    /// The exact loss on all of their answers, in nats per token.
    pub loss: f64,
    /// A few of them.
    pub sample: String,
}

impl Answers {
    /// Of the first `count` conversations.
    ///
    /// # Errors
    /// A model without a chat template, or an error of MLX's.
    pub fn of(checkpoint: &Checkpoint, count: usize) -> Result<Self> {
        let test: String = text(TEST)?
            .lines()
            .take(count)
            .map(|line| format!("{line}\n"))
            .collect();
        let conversations = Conversations::parse(&test, TEST)?;
        let (total, wrong) = last_answers(checkpoint, &conversations, Split::All, |_| ())?;
        let wrong: BTreeMap<usize, String> = wrong.into_iter().collect();
        let (mut kinds, mut sample): (BTreeMap<String, Score>, _) = (BTreeMap::new(), String::new());
        for (number, line) in (1..).zip(lines(&test)?) {
            let given = wrong.get(&number);
            let score = kinds.entry(line.kind).or_default();
            score.correct += usize::from(given.is_none());
            score.problems += 1;
            if number <= SAMPLED {
                let (expected, before) = line.messages.split_last().context("a conversation is empty")?;
                for message in before {
                    writeln!(sample, "{}", message.content)?;
                }
                match given {
                    None => writeln!(sample, "{}   right\n", expected.content)?,
                    Some(given) => writeln!(sample, "{given}   wrong: {}\n", expected.content)?,
                }
            }
        }
        let rows = rows(checkpoint, &conversations, Split::All)?;
        Ok(Self {
            accuracy: Accuracy {
                total,
                categories: kinds.into_iter().collect(),
            },
            loss: loss(checkpoint, &rows, |_| ())?.loss(),
            sample,
        })
    }
}

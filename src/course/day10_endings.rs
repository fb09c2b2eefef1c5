//! Day 10's multiple-choice questions.

use std::fmt::Write;

use anyhow::Result;

use super::day10_gpt2::{BASE, FINETUNED};
use crate::checkpoint::Checkpoint;
use crate::evaluate::hellaswag::{Example, parse};
use crate::evaluate::hellaswag::{HellaSwagResult, score};
use crate::lessons::workspace::Workspace;
use crate::terminal::console::say;

/// The built-in questions, tokenized for a model.
fn questions(checkpoint: &Checkpoint) -> Result<Vec<Example>> {
    let text = include_str!("../../assets/endings.jsonl");
    parse(
        text,
        "assets/endings.jsonl",
        &checkpoint.tokenizer,
        checkpoint.model.context,
    )
}

/// The endings that a model chooses.
pub fn choices(checkpoint: &Checkpoint) -> Result<HellaSwagResult> {
    score(checkpoint, &questions(checkpoint)?, |_| ())
}

/// Figure: a HellaSwag-style question, and the accuracy.
pub fn endings(workspace: &Workspace) -> Result<String> {
    say("asking for endings");
    let (before, after) = (workspace.load(BASE.folder)?, workspace.load(FINETUNED.folder)?);
    let example = &questions(&after)?[0];
    let reports = [choices(&before)?, choices(&after)?];
    let mut out = format!("{}\n", after.tokenizer.decode(&example.ctx)?);
    for (number, ending) in example.endings.iter().enumerate() {
        let right = if number == example.label { "right" } else { "" };
        writeln!(
            out,
            " {:<22}  {right:<5}  before {:>6.2}  after {:>6.2} nats",
            after.tokenizer.decode(ending)?,
            reports[0].scores[0].losses[number],
            reports[1].scores[0].losses[number]
        )?;
    }
    let guess = reports[0]
        .scores
        .iter()
        .map(|score| 1.0 / score.losses.len() as f64)
        .sum::<f64>();
    writeln!(
        out,
        "\nright, of {} questions  before {:.2}  after {:.2}  guessing {:.2}",
        reports[0].examples,
        reports[0].accuracy,
        reports[1].accuracy,
        guess / reports[0].examples as f64
    )?;
    Ok(out)
}

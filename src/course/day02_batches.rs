//! Day 2: the splits of a text, and how batches of examples are cut from it.

use std::fmt::Write;

use anyhow::Result;

use crate::data::batches::{Batch, row_starts, step_rng};
use crate::data::corpus::Split;
use crate::data::tokens::Tokens;
use crate::lessons::arrays::{token_labels, visible};
use crate::lessons::workspace::Workspace;

/// Context of a batch that is small enough to print.
pub const CHUNK: usize = 8;
/// Its rows.
pub const ROWS: usize = 4;

pub fn split(workspace: &Workspace) -> Result<String> {
    let mut text = String::new();
    for (name, split) in [
        ("all", Split::All),
        ("training", Split::Train),
        ("validation", Split::Val),
    ] {
        let part = workspace.text(split);
        let begins: String = part.chars().take(30).map(visible).collect();
        let tokens = workspace.tokenizer()?.encode(part)?.len();
        writeln!(text, "{name:<10}  {tokens:>8} tokens  {begins} …")?;
    }
    Ok(text)
}

fn training_tokens(workspace: &Workspace) -> Result<Tokens> {
    Ok(Tokens::Memory(
        workspace.tokenizer()?.encode(workspace.text(Split::Train))?,
    ))
}

pub fn examples(workspace: &Workspace) -> Result<String> {
    let tokenizer = workspace.tokenizer()?;
    let chunk = Batch::gather(&training_tokens(workspace)?, &[0], CHUNK);
    let (inputs, targets) = (
        token_labels(tokenizer, &chunk.inputs)?,
        token_labels(tokenizer, &chunk.targets)?,
    );
    let mut text = format!("inputs   {:?}\ntargets  {:?}\n\n", chunk.inputs, chunk.targets);
    for place in 0..CHUNK {
        let (seen, next) = (inputs[..=place].concat(), &targets[place]);
        let ids = format!("{:?}", &chunk.inputs[..=place]);
        writeln!(
            text,
            "after {seen:<CHUNK$} comes {next}    {ids} → {}",
            chunk.targets[place]
        )?;
    }
    Ok(text)
}

/// Start positions of a small first batch, and the batch.
pub fn first_batch(workspace: &Workspace) -> Result<(Vec<usize>, Batch)> {
    let tokens = training_tokens(workspace)?;
    let starts = row_starts(&mut step_rng(workspace.seed(), 0), ROWS, tokens.len(), CHUNK);
    let batch = Batch::gather(&tokens, &starts, CHUNK);
    Ok((starts, batch))
}

pub fn batch(workspace: &Workspace) -> Result<String> {
    let (starts, batch) = first_batch(workspace)?;
    let mut text = format!("rows begin at {starts:?}\n");
    for (name, ids) in [("inputs", &batch.inputs), ("targets", &batch.targets)] {
        writeln!(text, "\n{name} [{ROWS}, {CHUNK}]")?;
        for row in ids.chunks(CHUNK) {
            let numbers: String = row.iter().map(|id| format!("{id:>4}")).collect();
            writeln!(
                text,
                "{numbers}    {}",
                token_labels(workspace.tokenizer()?, row)?.concat()
            )?;
        }
    }
    Ok(text)
}

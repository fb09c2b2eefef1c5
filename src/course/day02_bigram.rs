//! Day 2: training data, and the smallest language model.

use std::fmt::Write;

use anyhow::{Context, Result};
use mlx_rs::{Array, ops};
use rand_chacha::ChaCha8Rng;

use super::day02_batches::{CHUNK, ROWS, batch, examples, first_batch, split};
use crate::checkpoint::Checkpoint;
use crate::config::{Architecture, TrainConfig};
use crate::data::batches::{row_starts, step_rng};
use crate::data::corpus::Split;
use crate::generate::sample_rng;
use crate::generate::sampler::Sampling;
use crate::lessons::arrays::{largest_difference, rows, table, token_labels, visible};
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::pictures;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::model::init::initialize;
use crate::model::{Model, Parameters};

/// Day 2.
pub const LESSON: Lesson = Lesson {
    day: 2,
    title: "Data, and the bigram model",
    teaches: "text as examples, what a loss is, and the smallest model that learns",
    chapter: include_str!("../../book/src/day-02.md"),
    models: &[BIGRAM],
    needs: &[],
    program,
};

fn program(page: &mut Page, workspace: &Workspace) -> Result<()> {
    page.figure("split.txt", || split(workspace))?;
    page.figure("examples.txt", || examples(workspace))?;
    page.figure("batch.txt", || batch(workspace))?;
    page.figure("table.txt", || corner(workspace))?;
    page.figure("untrained.txt", || untrained(workspace))?;
    page.figure("writing.txt", || writing(workspace))?;
    page.figure("training.txt", || training(workspace))?;
    page.figure("table.svg", || picture(workspace))?;
    page.figure("followers.txt", || followers(workspace))?;
    page.figure("counting.txt", || counting(workspace))?;
    page.claim(
        "targets are the inputs shifted by one token, and a batch of B rows has B times T of them",
        "Batch::gather in src/data/batches.rs",
        || {
            let batch = first_batch(workspace)?.1;
            let inputs = batch.inputs.chunks(CHUNK);
            let shifted = inputs
                .zip(batch.targets.chunks(CHUNK))
                .all(|(x, y)| x[1..] == y[..CHUNK - 1]);
            Ok(CheckResult::passes_if(
                shifted && batch.targets.len() == ROWS * CHUNK,
                format!("{} targets", batch.targets.len()),
            ))
        },
    )?;
    page.claim(
        "a step's batch depends on seed and step alone",
        "step_rng in src/data/batches.rs",
        || {
            let starts = |step| row_starts(&mut step_rng(workspace.seed(), step), ROWS, 1_000_000, CHUNK);
            Ok(CheckResult::passes_if(
                starts(5) == starts(5) && starts(5) != starts(6),
                format!("step 5 begins at {:?}, step 6 at {:?}", starts(5), starts(6)),
            ))
        },
    )?;
    page.claim(
        "only the last token counts: the tokens before it change nothing",
        "Bigram::forward in src/model/bigram.rs",
        || {
            let (model, parameters) = (
                fresh(workspace)?,
                initialize(&fresh(workspace)?.model, workspace.seed())?,
            );
            let model = Model::new(&model.model, &parameters)?;
            let logits = |ids: [u32; 3]| model.forward(&Array::from_slice(&ids, &[1, 3]), None);
            let last = |logits: Array| logits.take_axis(Array::from_int(2), 1);
            let difference = largest_difference(&last(logits([0, 1, 2])?)?, &last(logits([2, 0, 2])?)?)?;
            // The same row of the same table.
            Ok(CheckResult::within_tolerance(difference, 0.0))
        },
    )?;
    page.claim(
        "a uniform prediction has a loss of ln(vocabulary)",
        "negative_log_likelihood in src/model/loss.rs",
        || {
            let vocab = workspace.tokenizer()?.vocab_size();
            let zeros = ops::zeros::<f32>(&[vocab as i32, vocab as i32])?;
            let (loss, _) = workspace.measure(&with_table(workspace, zeros)?)?;
            // A logarithm in float32 is right to about 5e-7 between 4 and 8.
            Ok(CheckResult::within_tolerance(
                (loss - (vocab as f64).ln()).abs() as f32,
                2e-6,
            ))
        },
    )?;
    page.claim(
        "an untrained table's loss is close to that",
        "layout in src/model/init.rs",
        || {
            let (loss, _) = workspace.measure(&fresh(workspace)?)?;
            let even = (workspace.tokenizer()?.vocab_size() as f64).ln();
            // Logits of N(0, 0.02), of which a mean over a few hundred frequent pairs is left: some 0.002.
            Ok(CheckResult::within_tolerance((loss - even).abs() as f32, 0.01))
        },
    )?;
    page.claim(
        "generation is a loop of look-up and sampling: this day's loop generates the same text as `generate`",
        "Generator::generate in src/generate/mod.rs",
        || {
            let checkpoint = fresh(workspace)?;
            let model = Model::new(&checkpoint.model, &checkpoint.parameters)?;
            let start = checkpoint.tokenizer.default_prompt();
            let ours = write(&model, start[0], 100, &mut sample_rng(workspace.seed(), 0))?;
            let ours = checkpoint.tokenizer.decode(&ours[1..])?;
            let theirs = workspace.sample(&checkpoint, &checkpoint.tokenizer.decode(&start[..1])?, 100)?;
            Ok(CheckResult::passes_if(
                ours == theirs,
                format!("{} characters", ours.chars().count()),
            ))
        },
    )?;
    page.claim(
        "training ends close to what counting pairs gives at once",
        "the training: `lesson 2`; or counted in src/course/day02_bigram.rs",
        || {
            let learned = workspace.results(BIGRAM.folder)?.val_loss;
            let (counted, _) = workspace.measure(&counted_model(workspace)?)?;
            Ok(if workspace.is_fully_trained(&BIGRAM)? {
                // The last steps still jump about by batches of a few hundred tokens.
                CheckResult::within_tolerance((learned - counted).abs() as f32, 0.02)
            } else {
                CheckResult::Skipped(format!(
                    "it needs a model trained to its end; counting gives {counted:.4}"
                ))
            })
        },
    )?;
    Ok(())
}

pub const BIGRAM: Recipe = Recipe {
    folder: "day-02",
    what: "bigram table",
    // Each logit is updated rarely and directly, so it tolerates thirty times the learning rate of the whole GPT.
    change: |config| TrainConfig {
        lr: 3e-2,
        min_lr: 3e-3,
        ..config.with_architecture(Architecture::Bigram)
    },
    starts_from: None,
    band: (2.51, 2.54),
};

/// Characters in the picture.
const PICTURED: &str = "\n abcdefghijklmnopqrstuvwxyz,.:;'";

/// The bigram model with a given table of logits, `[V, V]`.
fn with_table(workspace: &Workspace, table: Array) -> Result<Checkpoint> {
    let tokenizer = workspace.tokenizer()?.clone();
    Ok(Checkpoint {
        folder: workspace.folder(BIGRAM.folder),
        model: workspace.config(&BIGRAM)?.model(tokenizer.vocab_size()),
        parameters: Parameters::from_entries(vec![("wte.weight".into(), table)]),
        tokenizer,
        base: None,
    })
}

/// The untrained model.
fn fresh(workspace: &Workspace) -> Result<Checkpoint> {
    let model = workspace.config(&BIGRAM)?.model(workspace.tokenizer()?.vocab_size());
    with_table(
        workspace,
        initialize(&model, workspace.seed())?.get("wte.weight")?.clone(),
    )
}

/// The rows and columns of a table `[V, V]` for those of `characters` that occur in the text.
fn cut(workspace: &Workspace, table: &Array, characters: &str) -> Result<(Vec<String>, Array)> {
    let tokenizer = workspace.tokenizer()?;
    let known: Vec<u32> = characters
        .chars()
        .filter_map(|character| tokenizer.encode(&character.to_string()).ok())
        .flatten()
        .collect();
    let ids = Array::from_slice(&known, &[known.len() as i32]);
    let part = table.take_axis(&ids, 0)?.take_axis(&ids, 1)?;
    Ok((token_labels(tokenizer, &known)?, part))
}

fn corner(workspace: &Workspace) -> Result<String> {
    let checkpoint = fresh(workspace)?;
    let whole = checkpoint.parameters.get("wte.weight")?;
    let (labels, part) = cut(workspace, whole, " aehnot")?;
    let head: String = labels.iter().map(|label| format!(" {label:>7}")).collect();
    Ok(format!(
        "wte.weight {:?}: {} numbers, of which these are a few\n\n {head}\n{}",
        whole.shape(),
        whole.size(),
        table(&labels, &part, 3)?
    ))
}

fn untrained(workspace: &Workspace) -> Result<String> {
    let checkpoint = fresh(workspace)?;
    let vocab = checkpoint.model.vocab_size;
    let (loss, _) = workspace.measure(&checkpoint)?;
    Ok(format!(
        "loss of the untrained table  {loss:.4}\nln({vocab})                       {:.4}\n",
        (vocab as f64).ln()
    ))
}

// ANCHOR: write
fn write(model: &Model, start: u32, tokens: usize, rng: &mut ChaCha8Rng) -> Result<Vec<u32>> {
    let mut ids = vec![start];
    while ids.len() <= tokens {
        let last = Array::from_slice(&ids[ids.len() - 1..], &[1, 1]);
        let logits = model.forward(&last, None)?; // [1, 1, V]
        let logits: Vec<f32> = logits.flatten(None, None)?.to_vec_exact()?;
        ids.push(Sampling::PLAIN.choose(&logits, &ids, rng)?.id);
    }
    Ok(ids)
}
// ANCHOR_END: write

fn writing(workspace: &Workspace) -> Result<String> {
    let checkpoint = fresh(workspace)?;
    let model = Model::new(&checkpoint.model, &checkpoint.parameters)?;
    let start = checkpoint.tokenizer.default_prompt();
    let ids = write(&model, start[0], 150, &mut sample_rng(workspace.seed(), 0))?;
    checkpoint.tokenizer.decode(&ids[1..])
}

fn training(workspace: &Workspace) -> Result<String> {
    Ok(workspace.train(&BIGRAM)?.summary())
}

// ANCHOR: counted
/// Logarithms of the counts of each pair of tokens, plus one: `[V, V]`.
fn counted(ids: &[u32], vocab: usize) -> Result<Array> {
    let mut counts = vec![1.0f32; vocab * vocab];
    for pair in ids.windows(2) {
        counts[pair[0] as usize * vocab + pair[1] as usize] += 1.0;
    }
    Ok(Array::from_slice(&counts, &[vocab as i32, vocab as i32]).log()?)
}
// ANCHOR_END: counted

/// A model with counts of the training text instead of trained weights.
fn counted_model(workspace: &Workspace) -> Result<Checkpoint> {
    let tokenizer = workspace.tokenizer()?;
    let ids = tokenizer.encode(workspace.text(Split::Train))?;
    with_table(workspace, counted(&ids, tokenizer.vocab_size())?)
}

/// Probabilities of each token after each, `[V, V]`: a softmax over each row of a table.
fn chances(checkpoint: &Checkpoint) -> Result<Array> {
    Ok(ops::softmax_axis(checkpoint.parameters.get("wte.weight")?, -1, true)?)
}

fn picture(workspace: &Workspace) -> Result<String> {
    let learned = chances(&workspace.load(BIGRAM.folder)?)?;
    let (labels, part) = cut(workspace, &learned, PICTURED)?;
    // Most probabilities are small: their square roots are easier to distinguish.
    let shades = rows(&part.sqrt()?)?;
    pictures::heat_map(
        "What follows what (row: the last character, column: the next)",
        &labels,
        &labels,
        &shades,
    )
}

fn followers(workspace: &Workspace) -> Result<String> {
    let tokenizer = workspace.tokenizer()?;
    let all: Vec<u32> = (0..tokenizer.vocab_size() as u32).collect();
    let names = token_labels(tokenizer, &all)?;
    let learned = rows(&chances(&workspace.load(BIGRAM.folder)?)?)?;
    let counted = rows(&chances(&counted_model(workspace)?)?)?;
    let mut text = String::from("after   most likely, learned (counted)\n");
    for asked in "qthe,.\n ".chars().map(visible) {
        let Some(row) = names.iter().position(|name| *name == asked) else {
            continue;
        };
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by(|&a, &b| learned[row][b].total_cmp(&learned[row][a]));
        write!(text, "{asked}     ")?;
        for &next in order.iter().take(5) {
            write!(
                text,
                "  {} {:.2} ({:.2})",
                names[next], learned[row][next], counted[row][next]
            )?;
        }
        text.push('\n');
    }
    Ok(text)
}

fn counting(workspace: &Workspace) -> Result<String> {
    let learned = workspace
        .results(BIGRAM.folder)
        .context("the bigram is not trained yet")?;
    let (counted, _) = workspace.measure(&counted_model(workspace)?)?;
    Ok(format!(
        "loss on the validation text\nlearned in {:>4} steps  {:.4}\ncounted at once        {counted:.4}\n",
        learned.steps, learned.val_loss
    ))
}

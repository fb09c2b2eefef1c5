//! Day 9's search for tokens that training never saw, and what a model does with one.

use std::cmp::Reverse;
use std::fmt::Write;

use anyhow::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

use super::vocabularies::short;
use crate::config::TrainConfig;
use crate::course::day01::BYTES;
use crate::course::day02::cross_entropy;
use crate::course::day03::Weights;
use crate::course::day07::{Shape, gpt};
use crate::course::day09::{moved, ranked, softmax};
use crate::data::corpus::Split;
use crate::lessons::Recipe;
use crate::lessons::arrays::token_labels;
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::workspace::Workspace;
use crate::model::init;
use crate::terminal::console::say;
use crate::tokenizer::{Bpe, Pattern, Tokenizer, train_merges};

const VOCAB_SIZE: usize = 1024;
/// Users who counted upwards, a number a post, in a forum that GPT-2's tokenizer was trained on.
const NAMES: [&str; 4] = [" SolidGoldMagikarp", " TheNitromeFan", " davidjl", " Smartstocks"];

/// GPT-2's kind of model, whose head is its embedding, and one with a head of its own.
const MODELS: [Recipe; 2] = [
    Recipe {
        folder: "day-09-unused",
        what: "GPT-2, tied head",
        change: short,
        starts_from: None,
        band: (0.0, f64::INFINITY),
    },
    Recipe {
        folder: "day-09-unused-own-head",
        what: "GPT-2, own head",
        change: |config| TrainConfig {
            tie_head: false,
            ..short(config)
        },
        starts_from: None,
        band: (0.0, f64::INFINITY),
    },
];

/// Which rows of a trained embedding belong to unused tokens, and how far each row has moved.
struct Rows {
    unused: Vec<bool>,
    moved: Vec<f32>,
    /// Mean cosine between the movements of two unused rows.
    alike: f32,
}

impl Rows {
    fn of(workspace: &Workspace, recipe: &Recipe) -> Result<Self> {
        let checkpoint = workspace.load(recipe.folder)?;
        let mut unused = vec![true; checkpoint.model.vocab_size];
        for id in checkpoint.tokenizer.encode(workspace.text(Split::Train))? {
            unused[id as usize] = false;
        }
        let before = init::initialize(&checkpoint.model, workspace.seed())?;
        let [before, after] = [&before, &checkpoint.parameters].map(|parameters| parameters.get("wte.weight"));
        let (before, after) = (before?, after?); // [V, C]
        let lengths = moved(before, after)?; // [V]
        let mut rows = Self {
            unused,
            moved: lengths.to_vec_exact()?,
            alike: 1.0,
        };
        let directions = after.subtract(before)?.divide(lengths.expand_dims(-1)?)?; // [V, C]
        let mean = directions.take_axis(rows.ids(), 0)?.mean_axis(0, false)?; // [C]
        rows.alike = mean.square()?.sum(None)?.try_item_exact()?;
        Ok(rows)
    }

    /// The ids of the unused tokens, `[N]`.
    fn ids(&self) -> Array {
        let ids = (0..).zip(&self.unused).filter_map(|(id, unused)| unused.then_some(id));
        let ids: Vec<u32> = ids.collect();
        Array::from_slice(&ids, &[ids.len() as i32])
    }

    fn count(&self) -> usize {
        self.unused.iter().filter(|unused| **unused).count()
    }

    /// The mean of the unused rows' movements, or of the others'.
    fn mean(&self, unused: bool) -> f32 {
        let of: Vec<f32> = (self.moved.iter().zip(&self.unused))
            .filter(|row| *row.1 == unused)
            .map(|row| *row.0)
            .collect();
        of.iter().sum::<f32>() / of.len() as f32
    }

    /// The ids of as many rows as are unused: those that moved least, and those that moved most.
    fn extremes(&self) -> [Vec<u32>; 2] {
        let most: Vec<u32> = ranked(&self.moved).into_iter().map(|id| id as u32).collect();
        [
            most.iter().rev().copied().take(self.count()).collect(),
            most[..self.count()].to_vec(),
        ]
    }

    /// How many of the unused tokens are among these.
    fn found(&self, ids: &[u32]) -> usize {
        ids.iter().filter(|&&id| self.unused[id as usize]).count()
    }
}

/// The section's figures and claims.
pub fn find(page: &mut Page, workspace: &Workspace) -> Result<()> {
    page.figure("unused.txt", || {
        say("day 9: two models whose tokenizer has seen another text");
        let plays = workspace.text(Split::Train);
        let thread: String = (1..=plays.len() / 500)
            .map(|n| format!("{n}{}\n", NAMES[n % 4]))
            .collect();
        let merges = train_merges(
            &[plays, &thread].concat(),
            Pattern::Gpt2,
            VOCAB_SIZE - BYTES as usize,
            |_| (),
        );
        let tokenizer = Tokenizer::from(Bpe::from_merges(&merges, Pattern::Gpt2, &[])?);
        let mut text = String::new();
        for (whose, tokenizer) in [("GPT-2's", Tokenizer::gpt2()?), ("this one", tokenizer.clone())] {
            let ids = NAMES.map(|name| tokenizer.encode(name));
            let ids = ids.into_iter().collect::<Result<Vec<_>>>()?;
            writeln!(text, "tokens of the four names, {whose:<8}  {ids:?}")?;
        }
        text +=
            "\nmodel            unused  moved by  others by  alike   unused of the least moved  of the most moved\n";
        for recipe in &MODELS {
            workspace.train_with_tokenizer(recipe, &tokenizer)?;
            let rows = Rows::of(workspace, recipe)?;
            let [least, most] = rows.extremes().map(|ids| rows.found(&ids));
            let (count, unused, others, alike) = (rows.count(), rows.mean(true), rows.mean(false), rows.alike);
            write!(
                text,
                "{:<16} {count:>6} {unused:>9.3} {others:>10.3} {alike:>6.2}",
                recipe.what
            )?;
            writeln!(text, " {least:>27} {most:>18}")?;
        }
        Ok(text)
    })?;
    page.claim(
        "nine tenths of the tokens that never occur are found by how far their rows moved: least, or most if the head is tied",
        "moved in src/course/day09.rs, the head in src/model/gpt.rs",
        || {
            let [tied, own] = [Rows::of(workspace, &MODELS[0])?, Rows::of(workspace, &MODELS[1])?];
            let found = [tied.found(&tied.extremes()[1]), own.found(&own.extremes()[0])];
            let measured = format!("{} and {} of {}", found[0], found[1], tied.count());
            if !workspace.is_fully_trained(&MODELS[1])? {
                return Ok(CheckResult::Skipped(format!("too few steps: {measured}")));
            }
            let holds = found.into_iter().all(|found| 10 * found >= 9 * tied.count());
            Ok(CheckResult::passes_if(holds, measured))
        },
    )?;
    page.figure("unused-found.txt", || {
        let checkpoint = workspace.load(MODELS[0].folder)?;
        let rows = Rows::of(workspace, &MODELS[0])?;
        let [_, mut found] = rows.extremes();
        found.retain(|&id| rows.unused[id as usize] && id >= BYTES);
        let mut labels = token_labels(&checkpoint.tokenizer, &found)?;
        labels.sort_by_key(|label| (Reverse(label.chars().count()), label.clone()));
        labels.truncate(24);
        Ok(labels.join("  ") + "\n")
    })?;
    page.figure("unused-prompt.txt", || prompted(workspace))?;
    page.claim(
        "the model with the tied head gives no unused token as much as an equal part of the probability",
        "the head in src/model/gpt.rs",
        || {
            let (largest, chance) = (likeliest_unused(workspace)?, 1.0 / VOCAB_SIZE as f32);
            let measured = format!("at most {largest:.1e}; an equal part is {chance:.1e}");
            if !workspace.is_fully_trained(&MODELS[0])? {
                return Ok(CheckResult::Skipped(format!("too few steps: {measured}")));
            }
            Ok(CheckResult::passes_if(largest < chance, measured))
        },
    )
}

/// What the model with the tied head says after a name that it never saw.
fn prompted(workspace: &Workspace) -> Result<String> {
    let checkpoint = workspace.load(MODELS[0].folder)?;
    let (weights, shape) = (Weights::from(&checkpoint.parameters), Shape::from(&checkpoint.model));
    let tokenizer = &checkpoint.tokenizer;
    let mut text = String::from("prompt                            most likely next tokens\n");
    for name in [" King", " Richard", NAMES[0], NAMES[1]] {
        let prompt = format!("My name is{name}");
        let ids = tokenizer.encode(&prompt)?;
        let logits: Vec<f32> = gpt(&row(&ids), &weights, &shape)?.try_index((0, -1))?.to_vec_exact()?; // [V]
        let (probabilities, likely) = (softmax(&logits), ranked(&logits));
        write!(text, "{prompt:<32}")?;
        for id in &likely[..5] {
            let label = token_labels(tokenizer, &[*id as u32])?.concat();
            write!(text, "  {label} {:.1} %", 100.0 * probabilities[*id])?;
        }
        text.push('\n');
    }

    // Places in the validation text: some tokens before, one that is put in, some after.
    let (val, half) = (
        tokenizer.encode(workspace.text(Split::Val))?,
        shape.context as usize / 2,
    );
    let places: Vec<usize> = (0..64).map(|place| place * (val.len() - 2 * half) / 64).collect();
    text += "\ninserted into the validation text   loss of the next tokens\n";
    for put_in in ["", " and", NAMES[0]] {
        let between = tokenizer.encode(put_in)?;
        let rows = places.iter().map(|&at| {
            let (before, after) = val[at..at + half + 16].split_at(half);
            [before, &between, after].concat()
        });
        let rows: Vec<u32> = rows.flatten().collect();
        let ids = Array::from_slice(&rows, &[64, rows.len() as i32 / 64]);
        let logits = gpt(&ids.try_index((.., ..-1))?, &weights, &shape)?;
        let after = (half + between.len()) as i32 - 1;
        let loss = cross_entropy(&logits.try_index((.., after..))?, &ids.try_index((.., after + 1..))?)?;
        let put_in = format!("{put_in:?}");
        writeln!(text, "{put_in:<35} {:.3}", loss.try_item_exact::<f32>()?)?;
    }

    let (largest, chance) = (likeliest_unused(workspace)?, 1.0 / shape.vocab_size as f32);
    writeln!(
        text,
        "\nprobability of any unused token, anywhere in {} tokens: at most {largest:.1e}\n\
         if all tokens were equally likely:                       {chance:.1e}",
        shape.context
    )?;
    Ok(text)
}

/// The largest probability that the model with the tied head gives to an unused token at the beginning of the validation text.
fn likeliest_unused(workspace: &Workspace) -> Result<f32> {
    let checkpoint = workspace.load(MODELS[0].folder)?;
    let (weights, shape) = (Weights::from(&checkpoint.parameters), Shape::from(&checkpoint.model));
    let val = checkpoint.tokenizer.encode(workspace.text(Split::Val))?;
    let logits = gpt(&row(&val[..shape.context as usize]), &weights, &shape)?; // [1, T, V]
    let ids = Rows::of(workspace, &MODELS[0])?.ids();
    let unused = ops::softmax_axis(&logits, -1, true)?.take_axis(&ids, -1)?;
    Ok(unused.max(None)?.try_item_exact()?)
}

/// Tokens as a batch of one row, `[1, T]`.
fn row(ids: &[u32]) -> Array {
    Array::from_slice(ids, &[1, ids.len() as i32])
}

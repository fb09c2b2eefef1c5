//! Day 10: drawings as tokens: patches, a codebook, and a GPT that draws.

use std::collections::BTreeMap;
use std::f32::consts::LN_2;
use std::fmt::Write;
use std::time::Instant;

use anyhow::Context;
use mlx_rs::error::Result;
use mlx_rs::ops::indexing::{TryIndexOp, argmin_axis};
use mlx_rs::{Array, ops, random};
use rand::RngExt;

use super::fitting::{minimize, too_few_steps, trained, trained_once};
use crate::course::day03::{Weights, one_hot};
use crate::course::day07::{Shape, gpt, initialize};
use crate::data::batches::{row_starts, step_rng};
use crate::lessons::arrays::{largest_difference, rows};
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::pictures;
use crate::lessons::workspace::Workspace;
use crate::model::loss::negative_log_likelihood;

/// Pixels of a side, of a drawing and of a patch; patches of a drawing.
const SIDE: i32 = 16;
const PATCH: i32 = 4;
const PATCHES: i32 = 16;
/// Patches in the codebook.
const CODES: i32 = 64;
/// What is drawn; each kind is a token after those of the codes.
const KINDS: [&str; 4] = ["disc", "ring", "square", "cross"];
const DRAWINGS: usize = 2000;
const STEPS: u64 = 600;
/// The codebook and the GPT's weights.
const FILE: &str = "day-10-drawings.safetensors";

/// A drawing of a kind, of random place and size, 16 rows of 16 numbers from 0, white, to 1, black.
fn drawing(kind: usize, seed: u64, number: u64) -> Vec<f32> {
    let mut rng = step_rng(seed, number);
    let radius: f32 = rng.random_range(3.0..6.5);
    let [cx, cy] = [(); 2].map(|()| rng.random_range(radius + 0.5..SIDE as f32 - radius - 0.5));
    let ink = |x: f32, y: f32| {
        let (dx, dy) = ((x - cx).abs(), (y - cy).abs());
        let distance = match kind {
            0 => dx.hypot(dy) - radius,                       // inside of a circle
            1 => (dx.hypot(dy) - radius + 1.0).abs() - 1.0,   // near it
            2 => (dx.max(dy) - radius + 1.0).abs() - 1.0,     // near a square
            _ => (dx.min(dy) - 1.0).max(dx.max(dy) - radius), // near one of two lines
        };
        (0.5 - distance).clamp(0.0, 1.0)
    };
    let pixels = (0..SIDE * SIDE).map(|at| ink((at % SIDE) as f32 + 0.5, (at / SIDE) as f32 + 0.5));
    pixels.collect()
}

// ANCHOR: patches
/// Drawings `[N, 16, 16]` as patches `[N, 16, 16]`: 16 squares of 4 · 4 pixels, row by row.
pub fn to_patches(drawings: &Array) -> Result<Array> {
    let [n, across] = [drawings.dim(0), SIDE / PATCH];
    let split = drawings.reshape(&[n, across, PATCH, across, PATCH])?;
    split
        .transpose_axes(&[0, 1, 3, 2, 4])?
        .reshape(&[n, PATCHES, PATCH * PATCH])
}

/// The opposite.
pub fn from_patches(patches: &Array) -> Result<Array> {
    let [n, across] = [patches.dim(0), SIDE / PATCH];
    let split = patches.reshape(&[n, across, across, PATCH, PATCH])?;
    split.transpose_axes(&[0, 1, 3, 2, 4])?.reshape(&[n, SIDE, SIDE])
}
// ANCHOR_END: patches

// ANCHOR: quantize
/// The number of the nearest row of the codebook `[K, D]` for each patch `[N, D]`: `[N]`.
pub fn quantize(patches: &Array, codebook: &Array) -> Result<Array> {
    // |p − c|² without |p|², which is the same for all codes.
    let squares = codebook.square()?.sum_axis(-1, false)?; // [K]
    let products = patches.matmul(codebook.transpose()?)?; // [N, K]
    argmin_axis(squares.subtract(products.multiply(Array::from_f32(2.0))?)?, -1, false)
}

/// A step of k-means: each code becomes the mean of the patches that it is nearest to; one without any stays.
pub fn k_means_step(patches: &Array, codebook: &Array) -> Result<Array> {
    let nearest = one_hot(&quantize(patches, codebook)?, codebook.dim(0))?; // [N, K]
    let counts = nearest.sum_axis(0, false)?.expand_dims(-1)?; // [K, 1]
    let sums = nearest.transpose()?.matmul(patches)?; // [K, D]
    let one = Array::from_f32(1.0);
    ops::select(counts.lt(&one)?, codebook, sums.divide(ops::maximum(&counts, &one)?)?)
}
// ANCHOR_END: quantize

/// The mean squared error of a pixel if each patch becomes its code.
fn error(patches: &Array, codebook: &Array) -> anyhow::Result<f32> {
    let nearest = codebook.take_axis(quantize(patches, codebook)?, 0)?;
    Ok(patches.subtract(nearest)?.square()?.mean(None)?.try_item_exact()?)
}

/// All patches of drawings, `[N, 16]`, and the codebook before the first step of k-means and after each.
fn codebooks(drawings: &Array, steps: usize) -> anyhow::Result<(Array, Vec<Array>)> {
    let patches = to_patches(drawings)?.reshape(&[-1, PATCH * PATCH])?;
    // It begins with patches that differ: most are white, and would be the same code.
    let numbers: Vec<f32> = patches.flatten(None, None)?.to_vec_exact()?;
    let mut distinct: BTreeMap<Vec<u32>, &[f32]> = BTreeMap::new();
    for patch in numbers.chunks((PATCH * PATCH) as usize) {
        distinct.insert(patch.iter().map(|pixel| (pixel * 3.0).round() as u32).collect(), patch);
    }
    let every = distinct.len() as f32 / CODES as f32;
    let distinct: Vec<&[f32]> = distinct.into_values().collect();
    let first: Vec<&[f32]> = (0..CODES)
        .map(|code| distinct[(code as f32 * every) as usize])
        .collect();
    let mut books = vec![Array::from_slice(&first.concat(), &[CODES, PATCH * PATCH])];
    for step in 0..steps {
        books.push(k_means_step(&patches, &books[step])?);
    }
    Ok((patches, books))
}

/// That many drawings, their kinds in turn, `[count, 16, 16]`.
fn drawn(seed: u64, count: usize) -> Array {
    let drawings: Vec<f32> = (0..count)
        .flat_map(|number| drawing(number % KINDS.len(), seed, number as u64))
        .collect();
    Array::from_slice(&drawings, &[count as i32, SIDE, SIDE])
}

/// The GPT's text for drawings whose kinds come in turn: the kind's token, then the codes: `[N, 17]`.
fn to_tokens(drawings: &Array, codebook: &Array) -> Result<Array> {
    let n = drawings.dim(0);
    let patches = to_patches(drawings)?.reshape(&[-1, PATCH * PATCH])?;
    let codes = quantize(&patches, codebook)?.reshape(&[n, PATCHES])?;
    let kinds: Vec<u32> = (0..n as u32)
        .map(|number| CODES as u32 + number % KINDS.len() as u32)
        .collect();
    ops::concatenate(&[Array::from_slice(&kinds, &[n, 1]), codes], 1)
}

/// The GPT that draws: its words are the codes and the kinds.
const DRAWER: Shape = Shape {
    vocab_size: CODES + KINDS.len() as i32,
    context: PATCHES,
    layers: 2,
    heads: 4,
    embd: 64,
};

/// The losses of each drawing's codes after its kind, `[N]`, in nats.
fn losses(tokens: &Array, weights: &Weights) -> Result<Array> {
    let logits = gpt(&tokens.try_index((.., ..-1))?, weights, &DRAWER)?;
    negative_log_likelihood(&logits, &tokens.try_index((.., 1..))?)?.sum_axis(-1, false)
}

/// Drawings of the GPT's, of each kind in turn: `[count, 16, 16]`.
fn draw(count: i32, weights: &Weights, codebook: &Array, key: &Array) -> Result<Array> {
    let mut keys = random::RandomState::from_key(key.clone());
    let kinds: Vec<u32> = (0..count as u32)
        .map(|number| CODES as u32 + number % KINDS.len() as u32)
        .collect();
    let mut tokens = Array::from_slice(&kinds, &[count, 1]);
    for _ in 0..PATCHES {
        let logits = gpt(&tokens, weights, &DRAWER)?.try_index((.., -1, ..CODES))?; // codes alone, no kinds
        let next = random::categorical(&logits, -1, None, &keys.next_key()?)?.expand_dims(-1)?;
        tokens = ops::concatenate(&[tokens, next], 1)?;
    }
    from_patches(&codebook.take_axis(tokens.try_index((.., 1..))?, 0)?)
}

/// Figures and claims.
pub fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let (seed, steps) = (workspace.seed(), workspace.at_most(STEPS));
    let load = |whole: u64| -> anyhow::Result<Option<(Weights, Array)>> {
        let Some(mut weights) = trained(workspace, 10, FILE, whole)? else {
            return Ok(None);
        };
        let codebook = weights.remove("codebook").context("the file has no codebook")?;
        Ok(Some((weights, codebook)))
    };
    let unseen = drawn(seed + 1, 200);
    page.figure("drawings.txt", || {
        trained_once(workspace, FILE, steps, "", || learn_to_draw(seed, steps, &unseen))
    })?;
    page.figure("drawings.svg", || {
        let (weights, codebook) = load(0)?.context("no drawings")?;
        let shown = unseen.try_index(..8)?;
        let nearest = quantize(&to_patches(&shown)?.reshape(&[-1, PATCH * PATCH])?, &codebook)?;
        let again = from_patches(&codebook.take_axis(nearest.reshape(&[-1, PATCHES])?, 0)?)?;
        let sampled = draw(24, &weights, &codebook, &random::key(seed)?)?;
        let list = |drawings: &Array| -> anyhow::Result<Vec<Vec<f32>>> { rows(&drawings.reshape(&[-1, SIDE * SIDE])?) };
        let mut sampled = list(&sampled)?.into_iter();
        let mut panels = vec![
            ("Drawings".to_owned(), list(&shown)?),
            ("The same from the codebook".into(), list(&again)?),
        ];
        for name in ["Drawn by the GPT: disc, ring, square, cross, and again", "", ""] {
            panels.push((name.into(), sampled.by_ref().take(8).collect()));
        }
        pictures::drawings(SIDE as usize, &panels)
    })?;
    page.claim(
        "patches put together again are the drawing, and no step of k-means makes the error of the codebook larger",
        "to_patches, from_patches, quantize and k_means_step in src/course/programs/drawings.rs",
        || {
            let off = largest_difference(&from_patches(&to_patches(&unseen)?)?, &unseen)?;
            let (patches, books) = codebooks(&unseen, 5)?;
            let errors: Vec<f32> = books
                .iter()
                .map(|book| error(&patches, book))
                .collect::<anyhow::Result<_>>()?;
            let measured = format!("difference {off}, error {:.5} to {:.5}", errors[0], errors[5]);
            // Each of the two halves of a step lowers it or leaves it; sums of float32.
            let falls = errors.windows(2).all(|pair| pair[1] <= pair[0] + 1e-7);
            Ok(CheckResult::passes_if(
                off == 0.0 && falls && errors[5] < errors[0],
                measured,
            ))
        },
    )?;
    page.claim(
        "of unseen drawings, at least nine in ten are likelier after their own kind than after each other one",
        "losses in src/course/programs/drawings.rs, the training: `lesson 10`",
        || {
            let Some((weights, codebook)) = load(STEPS)? else {
                return Ok(too_few_steps());
            };
            let tokens = to_tokens(&unseen, &codebook)?;
            let mut by_kind = Vec::new();
            for kind in 0..KINDS.len() as u32 {
                let kind = Array::full::<u32>(&[tokens.dim(0), 1], Array::from_slice(&[CODES as u32 + kind], &[]))?;
                by_kind.push(losses(
                    &ops::concatenate(&[kind, tokens.try_index((.., 1..))?], 1)?,
                    &weights,
                )?);
            }
            let likeliest: Vec<u32> = argmin_axis(ops::stack(&by_kind, 0)?, 0, false)?.to_vec_exact()?;
            let right = likeliest
                .iter()
                .enumerate()
                .filter(|(number, kind)| number % KINDS.len() == **kind as usize)
                .count();
            let measured = format!("{right} of {}", likeliest.len());
            Ok(CheckResult::passes_if(right * 10 >= likeliest.len() * 9, measured))
        },
    )
}

/// Finds the codebook and trains the GPT; gives both, and what the chapter shows.
fn learn_to_draw(seed: u64, steps: u64, unseen: &Array) -> anyhow::Result<(Weights, String)> {
    let started = Instant::now();
    let drawings = drawn(seed, DRAWINGS);
    let (patches, books) = codebooks(&drawings, 20)?;
    let count = patches.dim(0);
    let mut out =
        format!("{DRAWINGS} drawings, {count} patches, {CODES} codes\n\nsteps of k-means  error of a pixel\n");
    for step in [0, 1, 5, 20] {
        writeln!(out, "{step:>16}  {:>16.5}", error(&patches, &books[step])?)?;
    }
    let codebook = &books[20];
    let (tokens, unseen) = (to_tokens(&drawings, codebook)?, to_tokens(unseen, codebook)?);
    let first: Vec<u32> = unseen.try_index((0, 1..))?.to_vec_exact()?;
    let first: Vec<String> = first.iter().map(u32::to_string).collect();
    writeln!(out, "\na {} as tokens: {} {}", KINDS[0], KINDS[0], first.join(" "))?;
    let weights = initialize(&DRAWER, &random::key(seed)?)?;
    let (mut weights, _) = minimize(weights, steps, 3e-3, |weights, step| {
        let rows = row_starts(&mut step_rng(seed, step), 32, DRAWINGS, 0);
        let rows: Vec<u32> = rows.into_iter().map(|row| row as u32).collect();
        losses(&tokens.take_axis(Array::from_slice(&rows, &[32]), 0)?, weights)?.mean(None)
    })?;
    let bits = losses(&unseen, &weights)?.mean(None)?.try_item_exact::<f32>()? / LN_2;
    let (guessing, bytes) = (PATCHES as f32 * (CODES as f32).log2(), SIDE * SIDE * 8);
    let seconds = started.elapsed().as_secs_f32();
    write!(
        out,
        "\n{steps} steps in {seconds:.0} s, with the codebook\n\
         an unseen drawing: {bits:.1} bits; all codes alike: {guessing:.0}; its pixels as bytes: {bytes}\n"
    )?;
    weights.insert("codebook".into(), codebook.clone());
    Ok((weights, out))
}

//! Day 7: a transformer with an encoder and a decoder, which learns to write a text backwards.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Instant;

use mlx_rs::error::Result;
use mlx_rs::ops::indexing::{TryIndexOp, argmax_axis};
use mlx_rs::{Array, ops, random};
use rand::RngExt;

use super::fitting::{minimize, too_few_steps, trained, trained_once};
use crate::course::day02::cross_entropy;
use crate::course::day03::{Weights, causal_mask, embed};
use crate::course::day04::{attention_weights, linear, queries_keys_values, scores};
use crate::course::day05::{merge_heads, multi_head_attention, split_heads};
use crate::course::day06::{layer_norm, mlp};
use crate::course::day07::{Shape, initialize, logits};
use crate::data::batches::step_rng;
use crate::lessons::arrays::{labels, largest_difference, rows};
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::pictures::heat_map;
use crate::lessons::workspace::Workspace;

/// 26 letters, and a token before the first.
const BEGIN: u32 = 26;
/// Letters of a text.
const LETTERS: usize = 8;
const HEADS: i32 = 4;
const STEPS: u64 = 300;
/// The trained weights.
const FILE: &str = "day-07-backwards.safetensors";

// ANCHOR: attention
/// Attention of x `[B, T, C]` to `source` `[B, S, C]`: queries of the one, keys and values of the other. Gives what was gathered,
/// `[B, T, C]`, and the weights, `[B, H, T, S]`.
pub fn attention(x: &Array, source: &Array, weights: &Weights, name: &str, mask: Option<&Array>) -> Result<[Array; 2]> {
    let [q, _, _] = queries_keys_values(x, weights, name)?; // [B, T, C]
    let [_, k, v] = queries_keys_values(source, weights, name)?; // [B, S, C]
    let (q, k, v) = (
        split_heads(&q, HEADS)?,
        split_heads(&k, HEADS)?,
        split_heads(&v, HEADS)?,
    );
    let attention = attention_weights(&scores(&q, &k)?, mask)?; // [B, H, T, S]
    let gathered = merge_heads(&attention.matmul(&v)?)?; // [B, T, C]
    Ok([linear(&gathered, weights, &format!("{name}.c_proj"))?, attention])
}
// ANCHOR_END: attention

// ANCHOR: encoder
/// The encoder: the source's ids `[B, S]` to vectors `[B, S, C]`. A block of GPT's without the mask.
pub fn encode(ids: &Array, weights: &Weights) -> Result<Array> {
    let x = embed(ids, weights, 0)?;
    let normed = layer_norm(&x, weights, "encoder.ln_1")?;
    let [gathered, _] = attention(&normed, &normed, weights, "encoder.attn", None)?;
    let x = x.add(gathered)?;
    let normed = layer_norm(&x, weights, "encoder.ln_2")?;
    x.add(mlp(&normed, weights, "encoder.mlp")?)
}
// ANCHOR_END: encoder

// ANCHOR: decoder
/// The decoder: ids `[B, T]` and the encoder's vectors of the source `[B, S, C]` to logits `[B, T, V]` and the weights of the
/// cross-attention `[B, H, T, S]`. A block of GPT's with a third sum between the two: attention to the source.
pub fn decode(ids: &Array, source: &Array, weights: &Weights) -> Result<[Array; 2]> {
    let x = embed(ids, weights, 0)?;
    let normed = layer_norm(&x, weights, "decoder.ln_1")?;
    let mask = causal_mask(ids.dim(1))?;
    let [gathered, _] = attention(&normed, &normed, weights, "decoder.attn", Some(&mask))?;
    let x = x.add(gathered)?;
    let normed = layer_norm(&x, weights, "cross.ln_1")?;
    let source = layer_norm(source, weights, "cross.ln_2")?;
    let [gathered, cross] = attention(&normed, &source, weights, "cross.attn", None)?;
    let x = x.add(gathered)?;
    let normed = layer_norm(&x, weights, "decoder.ln_2")?;
    Ok([logits(&x.add(mlp(&normed, weights, "decoder.mlp")?)?, weights)?, cross])
}
// ANCHOR_END: decoder

/// Random weights: those of three blocks of a GPT. Of the third only the attention and the norms are used.
fn initial(seed: u64) -> Result<Weights> {
    let shape = Shape {
        vocab_size: BEGIN as i32 + 1,
        context: LETTERS as i32,
        layers: 3,
        heads: HEADS,
        embd: 64,
    };
    let rename = |name: String| {
        let parts = [("h.0.", "encoder."), ("h.1.", "decoder."), ("h.2.", "cross.")];
        parts.iter().fold(name, |name, (from, to)| name.replace(from, to))
    };
    let drawn = initialize(&shape, &random::key(seed)?)?.into_iter();
    let named = drawn.map(|(name, array)| (rename(name), array));
    Ok(named.filter(|(name, _)| !name.starts_with("cross.mlp")).collect())
}

/// Random texts of a step, as letters 0 to 25.
fn texts(seed: u64, step: u64, count: usize) -> Vec<Vec<u32>> {
    let mut rng = step_rng(seed, step);
    (0..count)
        .map(|_| (0..LETTERS).map(|_| rng.random_range(0..BEGIN)).collect())
        .collect()
}

/// The texts that no training has seen: those of a step that never comes.
fn unseen(seed: u64) -> Vec<Vec<u32>> {
    texts(seed, u64::MAX, 500)
}

fn array(texts: &[Vec<u32>]) -> Array {
    Array::from_slice(&texts.concat(), &[texts.len() as i32, texts[0].len() as i32])
}

/// The mean loss of the texts written backwards, each letter given those before it.
fn loss(texts: &[Vec<u32>], weights: &Weights) -> Result<Array> {
    // ANCHOR: loss
    let backwards: Vec<Vec<u32>> = texts.iter().map(|text| text.iter().rev().copied().collect()).collect();
    let begun: Vec<Vec<u32>> = backwards
        .iter()
        .map(|text| [&[BEGIN], &text[..LETTERS - 1]].concat())
        .collect();
    let source = encode(&array(texts), weights)?; // [B, S, C]
    let [logits, _] = decode(&array(&begun), &source, weights)?;
    cross_entropy(&logits, &array(&backwards))
    // ANCHOR_END: loss
}

/// What the model writes for each text, taking the likeliest letter each time.
fn write_backwards(texts: &[Vec<u32>], weights: &Weights) -> anyhow::Result<Vec<Vec<u32>>> {
    let source = encode(&array(texts), weights)?;
    let mut ids = Array::from_slice(&vec![BEGIN; texts.len()], &[texts.len() as i32, 1]);
    for _ in 0..LETTERS {
        let [logits, _] = decode(&ids, &source, weights)?;
        let next = argmax_axis(&logits.try_index((.., -1))?, -1, true)?; // [B, 1]
        ids = ops::concatenate(&[ids, next], 1)?;
    }
    let written: Vec<u32> = ids.try_index((.., 1..))?.flatten(None, None)?.to_vec_exact()?;
    Ok(written.chunks(LETTERS).map(<[u32]>::to_vec).collect())
}

fn word(text: &[u32]) -> String {
    text.iter().filter_map(|&id| char::from_u32('a' as u32 + id)).collect()
}

fn right(text: &[u32], written: &[u32]) -> bool {
    text.iter().rev().eq(written)
}

fn count_right(texts: &[Vec<u32>], written: &[Vec<u32>]) -> usize {
    texts
        .iter()
        .zip(written)
        .filter(|(text, written)| right(text, written))
        .count()
}

/// Figures and claims.
pub fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let (seed, steps) = (workspace.seed(), workspace.at_most(STEPS));
    let unseen = unseen(seed);
    page.figure("backwards.txt", || {
        trained_once(workspace, FILE, steps, "", || {
            let started = Instant::now();
            let (weights, losses) = minimize(initial(seed)?, steps, 5e-3, |weights, step| {
                loss(&texts(seed, step, 64), weights)
            })?;
            let seconds = started.elapsed().as_secs_f32();
            let written = write_backwards(&unseen, &weights)?;
            let parameters: usize = weights.values().map(Array::size).sum();
            let mut out = format!("{parameters} parameters, {steps} steps in {seconds:.0} s\n\nstep    loss\n");
            for step in [0, steps / 4, steps / 2, steps.saturating_sub(1)] {
                writeln!(out, "{step:>4} {:>7.3}", losses[step as usize])?;
            }
            out += "\nunseen    written\n";
            for (text, written) in unseen.iter().zip(&written).take(5) {
                let wrong = if right(text, written) { "" } else { "  wrong" };
                writeln!(out, "{}  {}{wrong}", word(text), word(written))?;
            }
            let (count, all) = (count_right(&unseen, &written), unseen.len());
            writeln!(
                out,
                "\n{count} of {all} unseen texts are written backwards without a mistake"
            )?;
            Ok((weights, out))
        })
    })?;
    page.figure("cross-attention.svg", || {
        let weights = trained(workspace, 7, FILE, 0)?.unwrap_or_default();
        let text = unseen[..1].to_vec();
        let written = write_backwards(&text, &weights)?;
        let begun = vec![[&[BEGIN], &written[0][..LETTERS - 1]].concat()];
        let [_, cross] = decode(&array(&begun), &encode(&array(&text), &weights)?, &weights)?;
        let map = cross.mean_axes(&[0, 1], false)?; // the mean of the heads, [T, S]
        let title = "Cross-attention: each letter written (rows) and the source (columns)";
        heat_map(
            title,
            &labels(&word(&written[0])),
            &labels(&word(&text[0])),
            &rows(&map)?,
        )
    })?;
    page.claim(
        "attention of a text to itself, with the mask, is day 5's",
        "multi_head_attention in src/course/day05.rs, attention in src/course/programs/encoder_decoder.rs",
        || {
            let weights = initial(seed)?;
            let x = random::normal::<f32>(&[2, 8, 64], None, None, &random::key(seed)?)?;
            let [ours, _] = attention(&x, &x, &weights, "decoder.attn", Some(&causal_mask(8)?))?;
            let day5 = multi_head_attention(&x, &weights, "decoder.attn", HEADS)?;
            Ok(CheckResult::within_tolerance(largest_difference(&ours, &day5)?, 0.0)) // the same operations
        },
    )?;
    page.claim(
        "what the decoder writes depends on the whole source, but on no letter that comes later",
        "encode and decode in src/course/programs/encoder_decoder.rs",
        || {
            let (weights, text) = (initial(seed)?, unseen[..1].to_vec());
            let with = |source: &[Vec<u32>], ids: &[Vec<u32>]| -> Result<Array> {
                let [logits, _] = decode(&array(ids), &encode(&array(source), &weights)?, &weights)?;
                Ok(logits)
            };
            let mut other = text.clone();
            other[0][LETTERS - 1] = (other[0][LETTERS - 1] + 1) % BEGIN;
            let all = |logits: Array| logits.try_index((.., ..LETTERS as i32 - 1));
            let base = all(with(&text, &text)?)?;
            let by_later = largest_difference(&all(with(&text, &other)?)?, &base)?;
            let by_source = with(&other, &text)?.try_index((0, 0))?;
            let by_source = largest_difference(&by_source, &base.try_index((0, 0))?)?;
            let measured = format!("changed by {by_later} and {by_source:.1e}");
            Ok(CheckResult::passes_if(by_later == 0.0 && by_source > 0.0, measured))
        },
    )?;
    page.claim(
        "at least 99 of 100 texts that it has not seen are written backwards without a mistake",
        "encode and decode in src/course/programs/encoder_decoder.rs",
        || {
            let Some(weights) = trained(workspace, 7, FILE, STEPS)? else {
                return Ok(too_few_steps());
            };
            let count = count_right(&unseen, &write_backwards(&unseen, &weights)?);
            let seen: BTreeSet<Vec<u32>> = (0..STEPS).flat_map(|step| texts(seed, step, 64)).collect();
            let trained_on = unseen.iter().filter(|text| seen.contains(*text)).count();
            let measured = format!("{count} of {}, of which {trained_on} were trained on", unseen.len());
            Ok(CheckResult::passes_if(
                count * 100 >= unseen.len() * 99 && trained_on == 0,
                measured,
            ))
        },
    )
}

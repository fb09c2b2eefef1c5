//! Day 9, the key-value cache: contents, correctness, speed.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype, ops, random};

use super::day09_generation::Day8Model;
use crate::config::{ModelConfig, Preset};
use crate::data::corpus::Split;
use crate::lessons::arrays::largest_difference;
use crate::lessons::claims::CheckResult;
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::workspace::Workspace;
use crate::measure::bench::timing::{median, milliseconds};
use crate::model::Model;
use crate::model::init::initialize;
use crate::model::kv_cache::KvCache;
use crate::terminal::console::say;

// ANCHOR: by_hand
/// Bytes of a full cache for one text: a key and a value of C numbers, for each token and each layer, in float32.
fn bytes_by_hand(model: &ModelConfig) -> usize {
    2 * model.embd * model.context * model.layers * 4
}
// ANCHOR_END: by_hand

/// The model of day 8 and the published sizes.
fn models(workspace: &Workspace) -> Result<Vec<(&'static str, ModelConfig)>> {
    let published = [
        ("gpt2", Preset::Gpt2),
        ("gpt2-medium", Preset::Gpt2Medium),
        ("gpt2-large", Preset::Gpt2Large),
        ("gpt2-xl", Preset::Gpt2Xl),
    ];
    let mut models = vec![("day 8", Day8Model::new(workspace)?.checkpoint.model)];
    models.extend(published.map(|(name, preset)| (name, preset.model(50257))));
    Ok(models)
}

/// Figure: sizes of the key-value cache.
pub fn sizes(workspace: &Workspace) -> Result<String> {
    let mut text = format!(
        "{:<12} {:>6} {:>6} {:>7} {:>13} {:>13}\n",
        "model", "layers", "width", "context", "by hand", "in code"
    );
    for (name, model) in models(workspace)? {
        writeln!(
            text,
            "{name:<12} {:>6} {:>6} {:>7} {:>13} {:>13}",
            model.layers,
            model.embd,
            model.context,
            bytes_by_hand(&model),
            KvCache::new(&model, 1, Dtype::Float32)?.bytes()
        )?;
    }
    Ok(text)
}

/// Claim: the cache has as many bytes as counted by hand.
pub fn bytes_are_counted(workspace: &Workspace) -> Result<CheckResult> {
    let mut same = true;
    for (_, model) in models(workspace)? {
        same &= KvCache::new(&model, 1, Dtype::Float32)?.bytes() == bytes_by_hand(&model);
    }
    Ok(CheckResult::passes_if(
        same,
        "day 8's model and the four published sizes".into(),
    ))
}

/// A context of the validation text, and the log-probabilities after each of its tokens: by one forward pass, and token by
/// token with the cache. `[T, V]` each.
fn both_ways(workspace: &Workspace) -> Result<(Array, Array)> {
    let day8 = Day8Model::new(workspace)?;
    let config = &day8.checkpoint.model;
    let text: String = workspace.text(Split::Val).chars().take(config.context).collect();
    let ids = day8.checkpoint.tokenizer.encode(&text)?;
    let ids = Array::from_slice(&ids, &[1, ids.len() as i32]);
    let model = Model::new(config, &day8.checkpoint.parameters)?;
    // ANCHOR: both
    let at_once = model.forward(&ids, None)?.squeeze_axes(&[0])?; // [T, V]
    let mut cache = KvCache::new(config, 1, Dtype::Float32)?;
    let mut one_by_one = Vec::new();
    for at in 0..ids.dim(1) {
        one_by_one.push(model.forward_cached(&ids.try_index((.., at..at + 1))?, &mut cache)?);
    }
    let one_by_one = ops::concatenate(&one_by_one, 0)?; // [T, V]
    // ANCHOR_END: both
    let log_softmax = |logits: &Array| logits.subtract(logits.logsumexp_axis(-1, true)?);
    Ok((log_softmax(&at_once)?, log_softmax(&one_by_one)?))
}

/// Figure: log-probabilities with and without the cache.
pub fn same(workspace: &Workspace) -> Result<String> {
    let (at_once, one_by_one) = both_ways(workspace)?;
    Ok(format!(
        "log-probabilities {:?}\nat once against one by one: largest difference {:.1e}\n",
        at_once.shape(),
        largest_difference(&at_once, &one_by_one)?
    ))
}

/// Claim: both are the same.
pub fn cached_is_uncached(workspace: &Workspace) -> Result<CheckResult> {
    let (at_once, one_by_one) = both_ways(workspace)?;
    // Log-probabilities of up to 20 in float32 through all layers, each product with another order of sums.
    Ok(CheckResult::within_tolerance(
        largest_difference(&at_once, &one_by_one)?,
        1e-4,
    ))
}

/// Length of the longest timed text, longer than day 8's context, so that the difference is visible.
const LONGEST: i32 = 256;
/// Tokens between two timings.
const EVERY: i32 = 32;
const ROUNDS: usize = 5;

/// Time of one more token by length of the text: recomputing everything, and with the cache. Medians of several rounds.
fn times(workspace: &Workspace) -> Result<Vec<(i32, Duration, Duration)>> {
    say("day 9: timing tokens with the cache and without it");
    // Time does not depend on what the weights are.
    let config = ModelConfig {
        context: LONGEST as usize,
        ..Day8Model::new(workspace)?.checkpoint.model
    };
    let model = Model::new(&config, &initialize(&config, workspace.seed())?)?;
    let ids = random::randint::<i32, u32>(
        0,
        config.vocab_size as i32,
        &[1, LONGEST],
        &random::key(workspace.seed())?,
    )?;
    eval([&ids])?;
    let mut anew = vec![Vec::new(); (LONGEST / EVERY) as usize];
    let mut cached = anew.clone();
    for _ in 0..ROUNDS {
        let mut cache = KvCache::new(&config, 1, Dtype::Float32)?;
        for at in 0..LONGEST {
            let started = Instant::now();
            eval([&model.forward_cached(&ids.try_index((.., at..at + 1))?, &mut cache)?])?;
            let time = started.elapsed();
            if (at + 1) % EVERY == 0 {
                let place = ((at + 1) / EVERY - 1) as usize;
                cached[place].push(time);
                let started = Instant::now();
                eval([&model.forward(&ids.try_index((.., ..at + 1))?, None)?])?;
                anew[place].push(started.elapsed());
            }
        }
    }
    let medians = anew.into_iter().zip(cached);
    let medians = (1..)
        .zip(medians)
        .map(|(place, (anew, cached))| (place * EVERY, median(anew), median(cached)));
    Ok(medians.collect())
}

/// Figure: the time per token with and without the cache.
pub fn timing(workspace: &Workspace) -> Result<String> {
    let mut text = String::from("tokens so far   no cache   with the cache\n");
    for (tokens, anew, cached) in times(workspace)? {
        writeln!(
            text,
            "{tokens:>13} {:>7.2} ms {:>13.2} ms",
            milliseconds(anew),
            milliseconds(cached)
        )?;
    }
    writeln!(text, "\n(medians of {ROUNDS} rounds)")?;
    Ok(text)
}

/// The same as a picture.
pub fn timing_picture(workspace: &Workspace) -> Result<String> {
    let times = times(workspace)?;
    let curve = |name: &str, of: fn(&(i32, Duration, Duration)) -> Duration| Series {
        name: name.into(),
        points: times
            .iter()
            .map(|time| (f64::from(time.0), milliseconds(of(time))))
            .collect(),
    };
    let axes = Axes {
        title: "Time of one more token",
        x: "tokens so far",
        y: "milliseconds",
        ..Axes::default()
    };
    curves(
        &axes,
        &[
            curve("without the cache", |time| time.1),
            curve("with the cache", |time| time.2),
        ],
    )
}

/// Tokens of the validation text, three more than the context holds.
fn overlong(workspace: &Workspace, day8: &Day8Model) -> Result<Vec<u32>> {
    let text: String = workspace
        .text(Split::Val)
        .chars()
        .take(day8.checkpoint.model.context + 3)
        .collect();
    day8.checkpoint.tokenizer.encode(&text)
}

/// Figure: the context window when it is full.
pub fn full(workspace: &Workspace) -> Result<String> {
    let day8 = Day8Model::new(workspace)?;
    let context = day8.checkpoint.model.context;
    let mut sequence = day8.generator.sequence()?;
    let mut text = String::from("tokens of the text  in context   computed for the next\n");
    for (count, id) in (1..).zip(overlong(workspace, &day8)?) {
        sequence.push(&[id]);
        if count + 2 > context {
            writeln!(
                text,
                "{count:>18} {:>11} {:>23}",
                sequence.window(0).len(),
                sequence.unseen()
            )?;
        }
        sequence.next_logits()?;
    }
    Ok(text)
}

/// Claim: a full context continues from its last half.
pub fn full_goes_on_with_half(workspace: &Workspace) -> Result<CheckResult> {
    let day8 = Day8Model::new(workspace)?;
    let context = day8.checkpoint.model.context;
    let ids = overlong(workspace, &day8)?;
    let ids = ids.get(..=context).context("the validation text is too short")?;
    let mut whole = day8.generator.sequence()?;
    for &id in ids {
        whole.push(&[id]);
        if whole.window(0).len() == context {
            whole.next_logits()?; // the cache is full
        }
    }
    let half = &ids[ids.len() - context / 2 - 1..];
    let mut fresh = day8.generator.sequence()?;
    half.iter().for_each(|&id| fresh.push(&[id]));
    if whole.window(0) != half {
        return Ok(CheckResult::Failed(format!(
            "it looks at {} tokens",
            whole.window(0).len()
        )));
    }
    let (whole, fresh) = (whole.next_logits()?, fresh.next_logits()?);
    let largest = whole.iter().zip(&fresh).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // The same tokens at the same positions, computed in the same way.
    Ok(CheckResult::within_tolerance(largest, 0.0))
}

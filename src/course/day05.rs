//! Day 5: many heads of attention: in a loop, then all of them as one more axis.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops};

use super::day03::{Weights, causal_mask};
use super::day04::{attention_weights, linear, queries_keys_values, scores};

// ANCHOR: loop
/// Attention of queries, keys and values, each `[B, T, C]`, one head after the other: to `[B, T, C]`.
///
/// # Exercise
/// Split each of the three into `heads` parts along the last axis, attend with each as on day 4, and put the results side by
/// side: `split_equal(heads, -1)`, `ops::concatenate(&gathered, -1)`.
pub fn heads_by_loop([q, k, v]: &[Array; 3], heads: i32) -> Result<Array> {
    let mask = causal_mask(q.dim(1))?; // [T, T]
    let parts = |x: &Array| x.split_equal(heads, -1); // H × [B, T, D]
    let mut gathered = Vec::new();
    for ((q, k), v) in parts(q)?.iter().zip(parts(k)?).zip(parts(v)?) {
        let weights = attention_weights(&scores(q, &k)?, Some(&mask))?; // [B, T, T]
        gathered.push(weights.matmul(&v)?); // [B, T, D]
    }
    ops::concatenate(&gathered, -1) // [B, T, C]
}
// ANCHOR_END: loop

// ANCHOR: split
/// Heads as an axis before the tokens: `[B, T, C]` to `[B, H, T, D]`.
///
/// # Exercise
/// First divide the last axis into H heads of D, then let heads and tokens change places: `reshape`, `transpose_axes`. A
/// `reshape` alone would mix tokens and heads.
pub fn split_heads(x: &Array, heads: i32) -> Result<Array> {
    let [b, t, c] = [x.dim(0), x.dim(1), x.dim(2)];
    x.reshape(&[b, t, heads, c / heads])? // [B, T, H, D]
        .transpose_axes(&[0, 2, 1, 3]) // [B, H, T, D]
}

/// The opposite: `[B, H, T, D]` to `[B, T, C]`.
///
/// # Exercise
/// The two steps of `split_heads` undone, the last one first.
pub fn merge_heads(x: &Array) -> Result<Array> {
    let [b, h, t, d] = [x.dim(0), x.dim(1), x.dim(2), x.dim(3)];
    x.transpose_axes(&[0, 2, 1, 3])?.reshape(&[b, t, h * d])
}
// ANCHOR_END: split

// ANCHOR: at_once
/// Multi-head causal self-attention: x `[B, T, C]` to `[B, T, C]`, with the layers `{name}.c_attn` and `{name}.c_proj`.
///
/// # Exercise
/// Day 4's `one_head`, with heads as an axis: split queries, keys and values, attend, merge. Nothing else changes.
pub fn multi_head_attention(x: &Array, weights: &Weights, name: &str, heads: i32) -> Result<Array> {
    let [q, k, v] = queries_keys_values(x, weights, name)?;
    let (q, k, v) = (
        split_heads(&q, heads)?,
        split_heads(&k, heads)?,
        split_heads(&v, heads)?,
    );
    let mask = causal_mask(x.dim(1))?; // [T, T]
    let attention = attention_weights(&scores(&q, &k)?, Some(&mask))?; // [B, H, T, T]
    let gathered = merge_heads(&attention.matmul(&v)?)?; // [B, T, C]
    linear(&gathered, weights, &format!("{name}.c_proj"))
}
// ANCHOR_END: at_once

// The day's program.

use std::fmt::Write;
use std::time::Instant;

use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{random, transforms};

use super::day03::embed;
use super::day04::{ONE_HEAD, SENTENCES};
use crate::config::{Architecture, ModelConfig, TrainConfig};
use crate::lessons::arrays::{larger, largest_difference};
use crate::lessons::attention_maps::{AttentionMap, habits};
use crate::lessons::claims::{CheckResult, lower_loss};
use crate::lessons::page::Page;
use crate::lessons::pictures;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::model::attention::Attention;
use crate::model::init::parameter_count;
use crate::model::parameters::Parameters;
use crate::terminal::console::say;

/// Day 5.
pub const LESSON: Lesson = Lesson {
    day: 5,
    title: "Many heads",
    teaches: "several queries at once: heads in a loop, then all of them as one more axis",
    chapter: include_str!("../../book/src/day-05.md"),
    models: &[HEADS],
    needs: &[],
    program,
};

/// Day 5's model: as day 4, with the preset's number of heads.
pub const HEADS: Recipe = Recipe {
    folder: "day-05",
    what: "many heads of attention",
    change: |config| TrainConfig {
        lr: 1e-2,
        min_lr: 1e-3,
        ..config.with_architecture(Architecture::Attention)
    },
    starts_from: None,
    band: (2.12, 2.26),
};

fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let (model, parameters) = workspace.untrained_enlarged(&HEADS)?;
    let heads = model.heads as i32;
    let weights = Weights::from(&parameters);
    let attention = |parameters: &Parameters| Attention::new(&parameters.under("attn"), &model);
    let x = embed(&workspace.ids(&SENTENCES)?, &weights, 0)?; // [B, T, C]
    let qkv = queries_keys_values(&x, &weights, "attn")?;
    let attended = attention(&parameters)?.weights(&x)?; // [B, H, T, T]
    page.figure("shapes.txt", || {
        Ok(format!(
            "queries of all heads    {:?}  [B, T, C]\nof each of {heads} heads      {:?}  [B, T, D]\nweights of all heads    {:?}  [B, H, T, T]\n",
            qkv[0].shape(),
            qkv[0].split_equal(heads, -1)?[0].shape(),
            attended.shape()
        ))
    })?;

    let with_heads = |heads| parameter_count(&ModelConfig { heads, ..model.clone() });
    page.figure("cost.txt", || {
        let (t, c) = (model.context, model.embd);
        let mut text = format!(
            "context {t}, width {c}\n\nheads  head size  parameters of all  products for the scores of a text  weights of a text\n"
        );
        for heads in [1, 2, 4, 8, 16].into_iter().filter(|heads| c % heads == 0) {
            let (parameters, size) = (with_heads(heads), c / heads);
            let (products, weights) = (heads * t * t * size, heads * t * t);
            writeln!(text, "{heads:>5}  {size:>9}  {parameters:>17}  {products:>33}  {weights:>17}")?;
        }
        Ok(text)
    })?;
    page.claim(
        "many heads have as many parameters as one",
        "layout in src/model/init.rs",
        || {
            let [many, one] = [model.heads, 1].map(with_heads);
            Ok(CheckResult::passes_if(many == one, format!("{many} and {one}")))
        },
    )?;

    let by_loop = linear(&heads_by_loop(&qkv, heads)?, &weights, "attn.c_proj")?;
    let at_once = multi_head_attention(&x, &weights, "attn", heads)?;
    let loop_off = largest_difference(&by_loop, &at_once)?;
    let library_off = largest_difference(&at_once, &attention(&parameters)?.forward(&x, None, None)?)?;
    page.figure("equal.txt", || {
        Ok(format!(
            "largest difference of the loop from all at once      {loop_off:.1e}\n\
             largest difference of all at once from the library   {library_off:.1e}\n"
        ))
    })?;
    page.claim(
        "heads in a loop, heads as an axis and the library's attention compute the same",
        "heads_by_loop and multi_head_attention in src/course/day05.rs, Attention in src/model/attention.rs",
        // Outputs around 1, sums of 128 products in float32, in different orders.
        || Ok(CheckResult::within_tolerance(larger(loop_off, library_off), 1e-5)),
    )?;
    page.claim(
        "a head uses its own channels alone: other heads' queries do not change its weights",
        "queries_keys_values in src/model/attention.rs",
        || {
            let name = "attn.c_attn.weight";
            let mut matrix = weights[name].clone(); // [C, 3C]; its first D columns make the first head's queries
            matrix.try_index_mut((.., ..x.dim(2) / heads), Array::from_f32(0.1))?;
            let (_, others) = parameters.partition(|other, _| other == name);
            let changed = others.union(&Parameters::from_entries(vec![(name.into(), matrix)]));
            let after = attention(&changed)?.weights(&x)?;
            let first = largest_difference(&attended.try_index((.., ..1))?, &after.try_index((.., ..1))?)?;
            let rest = largest_difference(&attended.try_index((.., 1..))?, &after.try_index((.., 1..))?)?;
            let measured = format!("the first head's weights moved by {first:.2}, the others' by {rest}");
            Ok(CheckResult::passes_if(rest == 0.0 && first > 0.0, measured))
        },
    )?;

    page.figure("timing.txt", || timing(workspace))?;

    page.figure("training.txt", || Ok(workspace.train(&HEADS)?.summary()))?;
    page.claim(
        "many heads have a lower loss than one",
        "Attention in src/model/attention.rs, or the training of both",
        || lower_loss(workspace, &HEADS, &ONE_HEAD),
    )?;
    page.figure("habits.txt", || habits(workspace, HEADS.folder))?;
    page.figure("maps.txt", || {
        let map = AttentionMap::of(workspace, HEADS.folder, 24)?;
        let maps = (0..map.heads.len()).map(|head| format!("head {}\n{}", head + 1, map.map(head)));
        Ok(maps.collect::<Vec<_>>().join("\n"))
    })?;
    page.figure("maps.svg", || {
        let map = AttentionMap::of(workspace, HEADS.folder, 14)?;
        let heads = map.heads.into_iter().enumerate();
        let panels: Vec<_> = heads
            .map(|(head, weights)| (format!("head {}", head + 1), weights))
            .collect();
        pictures::heat_maps(&map.tokens, &map.tokens, &panels)
    })
}

/// Times attention in a loop and at once, for several numbers of heads: medians of interleaved rounds.
fn timing(workspace: &Workspace) -> anyhow::Result<String> {
    const ROUNDS: usize = 25;
    say("timing heads in a loop and at once");
    let config = workspace.config(&HEADS)?;
    let [b, t, c] = [config.batch_size, config.context, config.embd].map(|n| n as i32);
    let all = random::normal::<f32>(&[b, t, 3 * c], None, None, &random::key(workspace.seed())?)?.split_equal(3, -1)?;
    let qkv = [all[0].clone(), all[1].clone(), all[2].clone()];
    transforms::eval(&qkv)?;
    let at_once = |heads: i32| -> Result<Array> {
        let [q, k, v] = [&qkv[0], &qkv[1], &qkv[2]].map(|x| split_heads(x, heads));
        let attention = attention_weights(&scores(&q?, &k?)?, Some(&causal_mask(t)?))?;
        merge_heads(&attention.matmul(&v?)?)
    };
    let mut text =
        format!("x [{b}, {t}, {c}], median of {ROUNDS} rounds, in milliseconds\n\nheads   in a loop   at once\n");
    for heads in [1, 4, 16, 64].into_iter().filter(|heads| c % heads == 0) {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            let ways: [&dyn Fn() -> Result<Array>; 2] = [&|| heads_by_loop(&qkv, heads), &|| at_once(heads)];
            for (compute, times) in ways.into_iter().zip(&mut times) {
                let start = Instant::now();
                compute()?.eval()?;
                if round > 0 {
                    times.push(start.elapsed().as_secs_f64() * 1e3); // the first round is a warm-up
                }
            }
        }
        let [by_loop, at_once] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[ROUNDS / 2]
        });
        writeln!(text, "{heads:>5}   {by_loop:>9.2}   {at_once:>7.2}")?;
    }
    Ok(text)
}

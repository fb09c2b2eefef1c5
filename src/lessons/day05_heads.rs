//! Day 5: multi-head attention.

use std::fmt::Write;
use std::time::Instant;

use anyhow::Result;
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{Array, ops, random, transforms};

use super::arrays::largest_difference;
use super::attention_maps::{AttentionMap, habits};
use super::claims::{CheckResult, Claim, lower_loss};
use super::day04_by_hand::{WorkedExample, future, masked_softmax, scores};
use super::day04_communication::{DOG, MAN};
use super::day04_self_attention::ONE_HEAD;
use super::pictures;
use super::workspace::Workspace;
use super::{Figure, Lesson, Recipe};
use crate::config::{Architecture, ModelConfig, TrainConfig};
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
    figures: &[
        Figure {
            name: "shapes.txt",
            render: shapes,
        },
        Figure {
            name: "equal.txt",
            render: equal,
        },
        Figure {
            name: "timing.txt",
            render: timing,
        },
        Figure {
            name: "cost.txt",
            render: cost,
        },
        Figure {
            name: "training.txt",
            render: |workspace| Ok(workspace.train(&HEADS)?.summary()),
        },
        Figure {
            name: "habits.txt",
            render: |workspace| habits(workspace, HEADS.folder),
        },
        Figure {
            name: "maps.txt",
            render: maps,
        },
        Figure {
            name: "maps.svg",
            render: pictures_of_heads,
        },
    ],
    models: &[HEADS],
    needs: &[],
    claims: &[
        Claim {
            statement: "heads in a loop, heads as an axis and the library's attention compute the same",
            hint: "heads_by_loop and heads_at_once in src/lessons/day05_heads.rs, Attention in src/model/attention.rs",
            verify: |workspace| {
                let [by_loop, at_once, library] = three_ways(workspace)?;
                let loop_and_axis = largest_difference(&by_loop, &at_once)?;
                let axis_and_library = largest_difference(&at_once, &library)?;
                // Outputs around 1, sums of 128 products in float32, in different orders.
                Ok(CheckResult::within_tolerance(loop_and_axis.max(axis_and_library), 1e-5))
            },
        },
        Claim {
            statement: "many heads have as many parameters as one",
            hint: "layout in src/model/init.rs",
            verify: |workspace| {
                let model = model(workspace)?;
                let [many, one] =
                    [model.heads, 1].map(|heads| parameter_count(&ModelConfig { heads, ..model.clone() }));
                Ok(CheckResult::passes_if(many == one, format!("{many} and {one}")))
            },
        },
        Claim {
            statement: "a head uses its own channels alone: other heads' queries do not change its weights",
            hint: "queries_keys_values in src/model/attention.rs",
            verify: |workspace| {
                let (own, others) = change_of_first_queries(workspace)?;
                Ok(CheckResult::passes_if(
                    others == 0.0 && own > 0.0,
                    format!("the first head's weights moved by {own:.2}, the others' by {others}"),
                ))
            },
        },
        Claim {
            statement: "many heads have a lower loss than one",
            hint: "Attention in src/model/attention.rs, or the training of both",
            verify: |workspace| lower_loss(workspace, HEADS.folder, ONE_HEAD.folder),
        },
    ],
};

pub(super) const HEADS: Recipe = Recipe {
    folder: "day-05",
    what: "many heads of attention",
    // As day 4, with the preset's number of heads.
    change: |config| TrainConfig {
        lr: 1e-2,
        min_lr: 1e-3,
        ..config.with_architecture(Architecture::Attention)
    },
    starts_from: None,
    band: (2.12, 2.26),
};

// ANCHOR: loop
/// Attention of queries, keys and values `[B, T, C]`, one head after the other.
fn heads_by_loop([q, k, v]: &[Array; 3], heads: i32) -> Result<Array> {
    let hidden = future(q.dim(1))?;
    let (q, k, v) = (
        q.split_equal(heads, -1)?,
        k.split_equal(heads, -1)?,
        v.split_equal(heads, -1)?,
    );
    let mut gathered = Vec::new();
    for head in 0..heads as usize {
        let weights = masked_softmax(&scores(&q[head], &k[head])?, Some(&hidden))?; // [B, T, T]
        gathered.push(weights.matmul(&v[head])?); // [B, T, D]
    }
    Ok(ops::concatenate(&gathered, -1)?) // [B, T, C]
}
// ANCHOR_END: loop

// ANCHOR: at_once
/// The same with heads as an axis before the tokens.
fn heads_at_once(qkv: &[Array; 3], heads: i32) -> Result<Array> {
    let [b, t, c] = [qkv[0].dim(0), qkv[0].dim(1), qkv[0].dim(2)];
    let apart = |x: &Array| {
        x.reshape(&[b, t, heads, c / heads])? // [B, T, H, D]
            .transpose_axes(&[0, 2, 1, 3]) // [B, H, T, D]
    };
    let (q, k, v) = (apart(&qkv[0])?, apart(&qkv[1])?, apart(&qkv[2])?);
    let weights = masked_softmax(&scores(&q, &k)?, Some(&future(t)?))?; // [B, H, T, T]
    let gathered = weights.matmul(&v)?; // [B, H, T, D]
    Ok(gathered.transpose_axes(&[0, 2, 1, 3])?.reshape(&[b, t, c])?)
}
// ANCHOR_END: at_once

fn model(workspace: &Workspace) -> Result<ModelConfig> {
    Ok(workspace.config(&HEADS)?.model(workspace.tokenizer()?.vocab_size()))
}

const TEXTS: [&str; 2] = [DOG, MAN];

/// Heads in a loop, at once, and the library's layer, on the same texts.
fn three_ways(workspace: &Workspace) -> Result<[Array; 3]> {
    let example = WorkedExample::new(workspace, &HEADS)?;
    let heads = example.model.heads as i32;
    let x = example.vectors(workspace, &TEXTS)?;
    let qkv = example.project(&x)?;
    Ok([
        example.last_layer(&heads_by_loop(&qkv, heads)?)?,
        example.last_layer(&heads_at_once(&qkv, heads)?)?,
        example.attention()?.forward(&x, None, None)?,
    ])
}

fn equal(workspace: &Workspace) -> Result<String> {
    let [by_loop, at_once, library] = three_ways(workspace)?;
    Ok(format!(
        "largest difference of the loop from all at once      {:.1e}\n\
         largest difference of all at once from the library   {:.1e}\n",
        largest_difference(&by_loop, &at_once)?,
        largest_difference(&at_once, &library)?
    ))
}

fn shapes(workspace: &Workspace) -> Result<String> {
    let example = WorkedExample::new(workspace, &HEADS)?;
    let x = example.vectors(workspace, &TEXTS)?;
    let [q, ..] = example.project(&x)?;
    let heads = example.model.heads as i32;
    Ok(format!(
        "queries of all heads    {:?}  [B, T, C]\nof each of {heads} heads      {:?}  [B, T, D]\nweights of all heads    {:?}  [B, H, T, T]\n",
        q.shape(),
        q.split_equal(heads, -1)?[0].shape(),
        example.attention()?.weights(&x)?.shape()
    ))
}

/// Change of the weights of the first head, and of the others, when the first head's queries change.
fn change_of_first_queries(workspace: &Workspace) -> Result<(f32, f32)> {
    let example = WorkedExample::new(workspace, &HEADS)?;
    let x = example.vectors(workspace, &TEXTS)?;
    let before = example.attention()?.weights(&x)?; // [B, H, T, T]
    let head_size = (example.model.embd / example.model.heads) as i32;
    let name = "attn.c_attn.weight";
    let mut matrix = example.parameters.get(name)?.clone(); // [C, 3C]; its first D columns make the first head's queries
    matrix.try_index_mut((.., ..head_size), Array::from_f32(0.1))?;
    let (_, others) = example.parameters.partition(|other, _| other == name);
    let changed = others.with(&Parameters::from_entries(vec![(name.into(), matrix)]));
    let after = Attention::new(&changed.under("attn"), &example.model)?.weights(&x)?;
    Ok((
        largest_difference(&before.try_index((.., ..1))?, &after.try_index((.., ..1))?)?,
        largest_difference(&before.try_index((.., 1..))?, &after.try_index((.., 1..))?)?,
    ))
}

/// Rounds of a timing; the median is reported.
const ROUNDS: usize = 25;

fn timing(workspace: &Workspace) -> Result<String> {
    say("timing heads in a loop and at once");
    let config = workspace.config(&HEADS)?;
    let [b, t, c] = [config.batch_size, config.context, config.embd].map(|n| n as i32);
    let all = random::normal::<f32>(&[b, t, 3 * c], None, None, &random::key(workspace.seed())?)?.split_equal(3, -1)?;
    let qkv = [all[0].clone(), all[1].clone(), all[2].clone()];
    transforms::eval(&qkv)?;
    let mut text =
        format!("x [{b}, {t}, {c}], median of {ROUNDS} rounds, in milliseconds\n\nheads   in a loop   at once\n");
    for heads in [1, 4, 16, 64].into_iter().filter(|heads| c % heads == 0) {
        let [by_loop, at_once] = median_milliseconds([&|| heads_by_loop(&qkv, heads), &|| heads_at_once(&qkv, heads)])?;
        writeln!(text, "{heads:>5}   {by_loop:>9.2}   {at_once:>7.2}")?;
    }
    Ok(text)
}

/// Median times of computing two arrays, alternating, so that other work affects both.
fn median_milliseconds(ways: [&dyn Fn() -> Result<Array>; 2]) -> Result<[f64; 2]> {
    let mut times = [Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS)];
    for round in 0..=ROUNDS {
        for (compute, times) in ways.iter().zip(&mut times) {
            let start = Instant::now();
            compute()?.eval()?;
            // The first round is a warm-up.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    }))
}

fn cost(workspace: &Workspace) -> Result<String> {
    let model = model(workspace)?;
    let (t, c) = (model.context, model.embd);
    let mut text = format!(
        "context {t}, width {c}\n\nheads  head size  parameters of all  products for the scores of a text  weights of a text\n"
    );
    for heads in [1, 2, 4, 8, 16].into_iter().filter(|heads| c % heads == 0) {
        let parameters = parameter_count(&ModelConfig { heads, ..model.clone() });
        let size = c / heads;
        writeln!(
            text,
            "{heads:>5}  {size:>9}  {parameters:>17}  {:>33}  {:>17}",
            heads * t * t * size,
            heads * t * t
        )?;
    }
    Ok(text)
}

fn maps(workspace: &Workspace) -> Result<String> {
    let looks = AttentionMap::of(workspace, HEADS.folder, 24)?;
    let maps = (0..looks.heads.len()).map(|head| format!("head {}\n{}", head + 1, looks.map(head)));
    Ok(maps.collect::<Vec<_>>().join("\n"))
}

fn pictures_of_heads(workspace: &Workspace) -> Result<String> {
    let looks = AttentionMap::of(workspace, HEADS.folder, 14)?;
    let heads = looks.heads.into_iter().enumerate();
    let panels: Vec<_> = heads
        .map(|(head, weights)| (format!("head {}", head + 1), weights))
        .collect();
    pictures::heat_maps(&looks.tokens, &looks.tokens, &panels)
}

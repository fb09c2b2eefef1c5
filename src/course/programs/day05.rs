//! Day 5: the figures and claims of its chapter, in its order.

use std::fmt::Write;
use std::time::Instant;

use mlx_rs::error::Result;
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{Array, random, transforms};

use super::day04::{ONE_HEAD, SENTENCES};
use crate::config::{Architecture, ModelConfig, TrainConfig};
use crate::course::day03::{Weights, causal_mask, embed};
use crate::course::day04::{attention_weights, linear, queries_keys_values, scores};
use crate::course::day05::{heads_by_loop, merge_heads, multi_head_attention, split_heads};
use crate::lessons::arrays::{larger, largest_difference};
use crate::lessons::attention_maps::{AttentionMap, habits};
use crate::lessons::claims::{CheckResult, lower_loss};
use crate::lessons::page::Page;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe, pictures};
use crate::model::attention::Attention;
use crate::model::init::parameter_count;
use crate::model::parameters::Parameters;
use crate::terminal::console::say;

/// Day 5.
pub const LESSON: Lesson = Lesson {
    day: 5,
    title: "Many heads",
    teaches: "several queries at once: heads in a loop, then all of them as one more axis",
    chapter: include_str!("../../../book/src/day-05.md"),
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

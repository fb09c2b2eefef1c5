//! Day 6: the transformer block.

use std::fmt::Write;

use anyhow::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops, random};

use super::day05::HEADS;
use super::day06_depth::{BlockVariant, alike, gradient_curves, gradient_norms, gradients, mean_cosine_similarity};
use super::day06_norms::{by_hand_from_library, change_of_another, mean_and_variance, norms};
use crate::config::{ModelConfig, TrainConfig};
use crate::lessons::arrays::{largest_difference, table};
use crate::lessons::claims::{CheckResult, lower_loss};
use crate::lessons::page::Page;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::model::attention::Attention;
use crate::model::block::Block;
use crate::model::dropout::{Dropout, maybe};
use crate::model::init::{initialize, layout};
use crate::model::mlp::{Mlp, gelu};
use crate::model::norm::LayerNorm;
use crate::model::parameters::Parameters;

/// Day 6.
pub const LESSON: Lesson = Lesson {
    day: 6,
    title: "The block",
    teaches: "the MLP, and what makes deep stacks trainable: residual connections, norms, dropout",
    chapter: include_str!("../../book/src/day-06.md"),
    models: &[ONE_BLOCK, BLOCKS],
    needs: &[],
    program,
};

fn program(page: &mut Page, workspace: &Workspace) -> Result<()> {
    page.figure("gelu.txt", || gelu_of_numbers(workspace))?;
    page.figure("parts.txt", || parts(workspace))?;
    page.figure("gradients.txt", || gradients(workspace))?;
    page.figure("gradients.svg", || gradient_curves(workspace))?;
    page.figure("alike.txt", || alike(workspace))?;
    page.figure("norms.txt", || norms(workspace))?;
    page.figure("dropout.txt", || dropout(workspace))?;
    page.figure("one-block.txt", || Ok(workspace.train(&ONE_BLOCK)?.summary()))?;
    page.figure("training.txt", || Ok(workspace.train(&BLOCKS)?.summary()))?;
    page.claim(
        "the MLP works on each token alone",
        "Mlp::forward in src/model/mlp.rs",
        || {
            let (others, own) = change_of_token(workspace)?;
            Ok(CheckResult::passes_if(
                others == 0.0 && own > 0.0,
                format!("{others} in the other tokens, {own:.1e} in its own"),
            ))
        },
    )?;
    page.claim(
        "x · sigmoid(2u) is GELU's 0.5 x (1 + tanh(u))",
        "gelu in src/model/mlp.rs",
        || {
            let x = ops::arange::<_, f32>(-6.0, 6.0, 0.05)?;
            // Values up to 6 in float32, whose last digit is 5e-7.
            Ok(CheckResult::within_tolerance(
                largest_difference(&gelu(&x)?, &gelu_by_tanh(&x)?)?,
                1e-6,
            ))
        },
    )?;
    page.claim(
        "a block is x plus attention, then plus the MLP, each applied to the norm of x",
        "Block::forward in src/model/block.rs",
        || {
            let (block, by_hand) = block_both_ways(workspace)?;
            // The same operations in the same order.
            Ok(CheckResult::within_tolerance(
                largest_difference(&block, &by_hand)?,
                0.0,
            ))
        },
    )?;
    page.claim(
        "layer norm subtracts the mean of the channels and divides by their standard deviation",
        "LayerNorm::forward in src/model/norm.rs",
        || {
            // Numbers up to 3, by two formulas for the variance in float32.
            Ok(CheckResult::within_tolerance(by_hand_from_library(workspace)?, 2e-6))
        },
    )?;
    page.claim(
        "after layer norm each vector has mean 0 and variance 1",
        "LayerNorm::forward in src/model/norm.rs",
        || {
            let (mean, variance) = mean_and_variance(workspace)?;
            // The variance is v / (v + 1e-5); those here are above 0.01, so it is at most 1e-3 too small.
            Ok(CheckResult::passes_if(
                mean <= 1e-6 && variance <= 1e-3,
                format!("means within {mean:.1e} of 0, variances within {variance:.1e} of 1"),
            ))
        },
    )?;
    page.claim(
        "layer norm doesn't depend on the rest of the batch; batch norm does",
        "LayerNorm::forward in src/model/norm.rs",
        || {
            let (by_layer, by_batch) = change_of_another(workspace)?;
            Ok(CheckResult::passes_if(
                by_layer == 0.0 && by_batch > 1e-2,
                format!("another vector changed: {by_layer} by layer norm, {by_batch:.2} by batch norm"),
            ))
        },
    )?;
    page.claim(
        "dropout zeroes the given fraction and keeps the mean; in evaluation it is off",
        "Dropout::apply in src/model/dropout.rs",
        || {
            let x = Array::ones::<f32>(&[1024, 1024])?;
            let dropped = drop_some(workspace, &x)?;
            let zeros = ops::eq(&dropped, Array::from_f32(0.0))?.as_dtype(mlx_rs::Dtype::Float32)?;
            let share = zeros.mean(None)?.try_item_exact::<f32>()?;
            let mean = mean_of_all(&dropped)?;
            let off = largest_difference(&maybe(None, x.clone())?, &x)?;
            // Of a million draws, the mean is known to 5e-4 (one standard deviation).
            Ok(CheckResult::passes_if(
                (share - RATE).abs() < 3e-3 && (mean - 1.0).abs() < 3e-3 && off == 0.0,
                format!("{share:.4} of {RATE} zeroed, mean {mean:.4}, a change of {off} in evaluation"),
            ))
        },
    )?;
    page.claim(
        "with residual connections the first block's gradient is as large as the last one's, within a factor of 10",
        "the sums in Block::forward, src/model/block.rs",
        || {
            let norms = gradient_norms(workspace, BlockVariant::ResidualAndNorm)?;
            let (first, last) = (norms[0], norms[norms.len() - 1]);
            Ok(CheckResult::passes_if(
                (0.1..10.0).contains(&(first / last)),
                format!("{first:.2e} in the first, {last:.2e} in the last"),
            ))
        },
    )?;
    page.claim(
        "without residual connections and norms, less than a hundredth of it reaches the first block",
        "the layers in src/model/mlp.rs and src/model/attention.rs",
        || {
            let norms = gradient_norms(workspace, BlockVariant::Neither)?;
            let (first, last) = (norms[0], norms[norms.len() - 1]);
            Ok(CheckResult::passes_if(
                first < 0.01 * last,
                format!("{first:.2e} in the first, {last:.2e} in the last"),
            ))
        },
    )?;
    page.claim(
        "without residual connections a deep stack makes all tokens alike; with them, they stay ten times as far apart",
        "the sums in Block::forward, src/model/block.rs",
        || {
            let apart = |wiring| -> Result<f64> {
                Ok(1.0
                    - mean_cosine_similarity(workspace, wiring)?
                        .last()
                        .copied()
                        .unwrap_or(1.0))
            };
            let (with, without) = (apart(BlockVariant::ResidualAndNorm)?, apart(BlockVariant::Norm)?);
            Ok(CheckResult::passes_if(
                with > 10.0 * without,
                format!("1 less the mean cosine is {with:.1e} with, {without:.1e} without"),
            ))
        },
    )?;
    page.claim(
        "one block has a lower loss than attention alone",
        "Block in src/model/block.rs, or the training of both",
        || lower_loss(workspace, &ONE_BLOCK, &HEADS),
    )?;
    page.claim(
        "three blocks, with twice the steps, have a lower loss than one",
        "Block in src/model/block.rs, or the training of both",
        || lower_loss(workspace, &BLOCKS, &ONE_BLOCK),
    )?;
    Ok(())
}

pub(super) const ONE_BLOCK: Recipe = Recipe {
    folder: "day-06-one-block",
    what: "one narrow block",
    change: |config| TrainConfig {
        layers: 1,
        ..narrow(config)
    },
    starts_from: None,
    band: (2.08, 2.12),
};

pub(super) const BLOCKS: Recipe = Recipe {
    folder: "day-06",
    what: "three narrow blocks",
    change: |config| TrainConfig {
        layers: 3,
        // Depth pays late: after the same number of steps, three blocks are hardly better than one.
        steps: 2 * config.steps,
        ..narrow(config)
    },
    starts_from: None,
    band: (1.95, 1.99),
};

/// A quarter as wide as the preset, which makes many steps cheap; so small a model tolerates four times the preset's rate.
fn narrow(config: TrainConfig) -> TrainConfig {
    TrainConfig {
        embd: config.embd / 4,
        lr: 4.0 * config.lr,
        min_lr: 4.0 * config.min_lr,
        ..config
    }
}

/// A new model of one block.
fn fresh(workspace: &Workspace) -> Result<(ModelConfig, Parameters)> {
    let model = workspace.config(&ONE_BLOCK)?.model(workspace.tokenizer()?.vocab_size());
    let parameters = initialize(&model, workspace.seed())?;
    Ok((model, parameters))
}

/// Two texts of eight tokens as vectors, `[2, 8, C]`.
fn vectors(workspace: &Workspace, model: &ModelConfig) -> Result<Array> {
    let shape = [2, 8, model.embd as i32];
    Ok(random::normal::<f32>(
        &shape,
        None,
        None,
        &random::key(workspace.seed())?,
    )?)
}

fn gelu_by_tanh(x: &Array) -> Result<Array> {
    let cube = x.power(Array::from_f32(3.0))?.multiply(Array::from_f32(0.044715))?;
    let inner = x
        .add(cube)?
        .multiply(Array::from_f32((2.0 / std::f32::consts::PI).sqrt()))?;
    let half = x.multiply(Array::from_f32(0.5))?;
    Ok(half.multiply(ops::tanh(inner)?.add(Array::from_f32(1.0))?)?)
}

fn gelu_of_numbers(_: &Workspace) -> Result<String> {
    let x = Array::from_slice(&[-3.0f32, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0], &[9]);
    let relu = ops::maximum(&x, Array::from_f32(0.0))?;
    let lines = ops::stack(&[x.clone(), relu, gelu(&x)?], 0)?; // [3, 9]
    table(&["x".into(), "ReLU".into(), "GELU".into()], &lines, 2)
}

/// Change of the MLP's outputs when a token changes: of the other tokens, and its own.
fn change_of_token(workspace: &Workspace) -> Result<(f32, f32)> {
    let (model, parameters) = fresh(workspace)?;
    let mlp = Mlp::new(&parameters.under("h.0.mlp"), &model)?;
    let x = vectors(workspace, &model)?;
    let other = ops::concatenate(&[x.try_index((.., ..7))?, x.try_index((.., 7..))?.negative()?], 1)?;
    let (first, second) = (mlp.forward(&x, None)?, mlp.forward(&other, None)?);
    Ok((
        largest_difference(&first.try_index((.., ..7))?, &second.try_index((.., ..7))?)?,
        largest_difference(&first.try_index((.., 7..))?, &second.try_index((.., 7..))?)?,
    ))
}

/// A block's output, and its two lines by hand.
fn block_both_ways(workspace: &Workspace) -> Result<(Array, Array)> {
    let (model, parameters) = fresh(workspace)?;
    let scope = parameters.under("h.0");
    let x = vectors(workspace, &model)?;
    let block = Block::new(&scope, &model)?.forward(&x, None, None)?;
    let (attn, mlp) = (
        Attention::new(&scope.under("attn"), &model)?,
        Mlp::new(&scope.under("mlp"), &model)?,
    );
    let norm = |name: &str, x: &Array| LayerNorm::new(&scope.under(name))?.forward(x);
    let x = x.add(attn.forward(&norm("ln_1", &x)?, None, None)?)?;
    let x = x.add(mlp.forward(&norm("ln_2", &x)?, None)?)?;
    Ok((block, x))
}

/// The parameters of a block, layer by layer.
fn parts(workspace: &Workspace) -> Result<String> {
    let (model, _) = fresh(workspace)?;
    let specs = layout(&model);
    let in_block: Vec<_> = specs
        .iter()
        .filter_map(|spec| Some((spec.name.strip_prefix("h.0.")?, &spec.shape)))
        .collect();
    let size = |shape: &[i32]| shape.iter().product::<i32>();
    let total: i32 = in_block.iter().map(|(_, shape)| size(shape)).sum();
    let mut text = String::new();
    for (name, shape) in &in_block {
        let share = 100.0 * f64::from(size(shape)) / f64::from(total);
        writeln!(
            text,
            "{name:<20} {:<12} {:>7}  {share:>4.1}%",
            format!("{shape:?}"),
            size(shape)
        )?;
    }
    writeln!(text, "{:<20} {:<12} {total:>7}", "a block", "")?;
    Ok(text)
}

/// Dropout probability in the chapter.
const RATE: f32 = 0.25;

/// Dropout of one site on x.
fn drop_some(workspace: &Workspace, x: &Array) -> Result<Array> {
    let keys = random::key(workspace.seed())?.expand_dims(0)?; // [1, 2]
    Ok(Dropout::new(RATE, keys, x.dim(0), 0).apply(x)?)
}

/// Means of rows first: a sequential float32 sum of a million numbers has a larger error than dropout's effect.
fn mean_of_all(x: &Array) -> Result<f32> {
    Ok(x.mean_axis(-1, false)?.mean(None)?.try_item_exact()?)
}

fn dropout(workspace: &Workspace) -> Result<String> {
    let x = Array::ones::<f32>(&[4, 10])?;
    let mut text = format!("ones after dropout of {RATE}:\n\n");
    let labels: Vec<String> = (0..4).map(|row| row.to_string()).collect();
    text += &table(&labels, &drop_some(workspace, &x)?, 2)?;
    let many = drop_some(workspace, &Array::ones::<f32>(&[1024, 1024])?)?;
    let same = largest_difference(&drop_some(workspace, &x)?, &drop_some(workspace, &x)?)?;
    writeln!(
        text,
        "\nmean of a million of them {:.3}; the same key a second time: a difference of {same}",
        mean_of_all(&many)?
    )?;
    Ok(text)
}

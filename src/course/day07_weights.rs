//! Day 7, initialisation and size: the initial loss, the scale of the residual stream, parameters counted by hand.

use std::fmt::Write;

use anyhow::Result;
use mlx_rs::Array;

use super::day07_gpt2::{fresh, inputs, stages};
use crate::config::{ModelConfig, Preset};
use crate::lessons::claims::CheckResult;
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::workspace::Workspace;
use crate::model::init::{initialize, parameter_count};
use crate::model::loss::negative_log_likelihood;
use crate::model::{Gpt, Parameters};

const GPT2_VOCABULARY: usize = 50257;

/// Numbers of parameters of OpenAI's models.
const PUBLISHED: [(Preset, usize); 4] = [
    (Preset::Gpt2, 124_439_808),
    (Preset::Gpt2Medium, 354_823_168),
    (Preset::Gpt2Large, 774_030_080),
    (Preset::Gpt2Xl, 1_557_611_200),
];

fn deviation(x: &Array) -> Result<f32> {
    Ok(x.subtract(x.mean(None)?)?
        .square()?
        .mean(None)?
        .sqrt()?
        .try_item_exact()?)
}

/// Standard deviation of the logits, and loss, of an untrained model whose matrices are `factor` times GPT-2's.
fn spread_and_loss(workspace: &Workspace, factor: f32) -> Result<(f32, f32)> {
    let (model, parameters, batch) = fresh(workspace, 12)?;
    let parameters = parameters.map(|array| match array.ndim() {
        0 | 1 => Ok(array.clone()),
        _ => array.multiply(Array::from_f32(factor)),
    })?;
    let ids = inputs(&batch);
    let logits = Gpt::new(&model, &parameters)?.forward(&ids, None)?;
    let losses = negative_log_likelihood(&logits, &Array::from_slice(&batch.targets, ids.shape()))?;
    Ok((deviation(&logits)?, losses.mean(None)?.try_item_exact()?))
}

/// Figure: first losses by scale of the initial weights.
pub fn first_loss(workspace: &Workspace) -> Result<String> {
    let vocabulary = workspace.tokenizer()?.vocab_size();
    let mut text = format!(
        "ln({vocabulary}) = {:.3}\n\ndeviation of weights   of logits     loss\n",
        (vocabulary as f32).ln()
    );
    for factor in [1.0, 5.0, 50.0] {
        let (spread, loss) = spread_and_loss(workspace, factor)?;
        writeln!(text, "{:<20.2} {spread:>11.2} {loss:>8.3}", 0.02 * factor)?;
    }
    Ok(text)
}

/// Standard deviation of the residual stream after the embeddings and after each block of an untrained model of that many
/// layers, with the residual projections scaled by depth, as in GPT-2, or not.
fn widths(workspace: &Workspace, layers: usize, scaled: bool) -> Result<Vec<f32>> {
    let (model, _, batch) = fresh(workspace, 4)?;
    let model = ModelConfig { layers, ..model };
    let factor = if scaled { 1.0 } else { (2.0 * layers as f32).sqrt() };
    let entries = initialize(&model, workspace.seed())?;
    let entries = entries.iter().map(|(name, array)| {
        let factor = if name.ends_with("c_proj.weight") { factor } else { 1.0 };
        Ok((name.to_owned(), array.multiply(Array::from_f32(factor))?))
    });
    let parameters = Parameters::from_entries(entries.collect::<Result<_>>()?);
    let stages = stages(&model, &parameters, &parameters, &inputs(&batch))?;
    stages[..=layers].iter().map(|(_, x)| deviation(x)).collect()
}

fn last(numbers: &[f32]) -> f32 {
    numbers[numbers.len() - 1]
}

/// Figure: standard deviation of the residual stream by depth.
pub fn stream(workspace: &Workspace) -> Result<String> {
    let mut text = String::from("layers   at first   at the end: scaled   unscaled\n");
    for layers in [12, 24, 48] {
        let (scaled, unscaled) = (widths(workspace, layers, true)?, widths(workspace, layers, false)?);
        writeln!(
            text,
            "{layers:<8} {:>8.3} {:>20.3} {:>10.3}",
            scaled[0],
            last(&scaled),
            last(&unscaled)
        )?;
    }
    Ok(text)
}

/// The same as a picture.
pub fn stream_picture(workspace: &Workspace) -> Result<String> {
    let curve = |name: &str, scaled| -> Result<Series> {
        let widths = widths(workspace, 48, scaled)?;
        Ok(Series {
            name: name.into(),
            points: (0..).zip(widths).map(|(x, y)| (f64::from(x), f64::from(y))).collect(),
        })
    };
    let axes = Axes {
        title: "The residual stream of 48 untrained layers",
        x: "blocks",
        y: "standard deviation",
        ..Axes::default()
    };
    curves(
        &axes,
        &[curve("unscaled", false)?, curve("scaled by 1/√(2·layers)", true)?],
    )
}

// ANCHOR: by_hand
/// The parameters of GPT-2, counted on paper.
fn parameters_by_hand(model: &ModelConfig) -> usize {
    let (l, c, t, v) = (model.layers, model.embd, model.context, model.vocab_size);
    let norm = c + c; // a gain and a bias for each channel
    let attention = (c * 3 * c + 3 * c) + (c * c + c); // c_attn, c_proj
    let mlp = (c * 4 * c + 4 * c) + (4 * c * c + c); // c_fc, c_proj
    let block = norm + attention + norm + mlp;
    v * c + t * c + l * block + norm // wte, wpe, blocks, ln_f; the head is wte
}
// ANCHOR_END: by_hand

/// Figure: the number of parameters of each size.
pub fn count(workspace: &Workspace) -> Result<String> {
    let (nano, ..) = fresh(workspace, 1)?;
    let models = PUBLISHED.map(|(preset, published)| (preset.model(GPT2_VOCABULARY), published.to_string()));
    let mut text = format!(
        "{:>6} {:>6} {:>7} {:>10} {:>13} {:>13} {:>13}\n",
        "layers", "width", "context", "vocabulary", "by hand", "in code", "published"
    );
    for (model, published) in models.iter().chain([&(nano, String::new())]) {
        writeln!(
            text,
            "{:>6} {:>6} {:>7} {:>10} {:>13} {:>13} {published:>13}",
            model.layers,
            model.embd,
            model.context,
            model.vocab_size,
            parameters_by_hand(model),
            parameter_count(model)
        )?;
    }
    Ok(text)
}

/// Claim: an untrained model predicts nearly uniformly.
pub fn first_loss_is_that_of_the_unsure(workspace: &Workspace) -> Result<CheckResult> {
    let (_, loss) = spread_and_loss(workspace, 1.0)?;
    let (model, ..) = fresh(workspace, 1)?;
    let unsure = (model.vocab_size as f32).ln();
    // Logits of a standard deviation s cost about s²/2, and s is about 0.2.
    Ok(CheckResult::passes_if(
        (loss - unsure).abs() < 0.1,
        format!("{loss:.3}, ln(vocabulary) is {unsure:.3}"),
    ))
}

/// Claim: scaling by depth keeps the residual stream's size.
pub fn scaled_stream_keeps_its_width(workspace: &Workspace) -> Result<CheckResult> {
    let ratio = |scaled| anyhow::Ok(last(&widths(workspace, 48, scaled)?) / last(&widths(workspace, 12, scaled)?));
    let (scaled, unscaled) = (ratio(true)?, ratio(false)?);
    // A tolerance of a tenth, for random numbers. Unscaled, four times the branches give √4 times the standard deviation.
    Ok(CheckResult::passes_if(
        (scaled - 1.0).abs() < 0.1 && (unscaled - 2.0).abs() < 0.2,
        format!("{scaled:.2} times as wide, and {unscaled:.2} times"),
    ))
}

/// Claim: the numbers of parameters are the published ones.
pub fn counts_are_the_published(_: &Workspace) -> Result<CheckResult> {
    let same = PUBLISHED.iter().all(|&(preset, published)| {
        let model = preset.model(GPT2_VOCABULARY);
        parameters_by_hand(&model) == published && parameter_count(&model) == published
    });
    Ok(CheckResult::passes_if(
        same,
        format!("{:?}", PUBLISHED.map(|(_, count)| count)),
    ))
}

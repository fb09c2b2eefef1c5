//! Day 7: GPT-2 assembled: shapes, weight tying, initialisation, parity with PyTorch.

use std::fmt::Write;

use anyhow::{Context, Result};
use mlx_rs::Array;
use mlx_rs::error::Result as MlxResult;
use mlx_rs::transforms::value_and_grad_with_argnums;

use super::day06::BLOCKS;
use super::{day07_pytorch, day07_weights};
use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::data::batches::{self, Batch};
use crate::data::corpus::Split;
use crate::lessons::arrays::{largest_difference, visible};
use crate::lessons::claims::{CheckResult, lower_loss};
use crate::lessons::gradients::largest_relative_difference;
use crate::lessons::page::Page;
use crate::lessons::pictures::principal_components;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::model::attention::Attention;
use crate::model::block::Block;
use crate::model::embeddings::Embeddings;
use crate::model::init::initialize;
use crate::model::linear::Linear;
use crate::model::loss::negative_log_likelihood;
use crate::model::mlp::Mlp;
use crate::model::norm::LayerNorm;
use crate::model::{Gpt, Parameters};

/// Day 7.
pub const LESSON: Lesson = Lesson {
    day: 7,
    title: "GPT-2 assembled",
    teaches: "weight tying, initialisation, every parameter counted, and the same numbers as PyTorch",
    chapter: include_str!("../../book/src/day-07.md"),
    models: &[NANO],
    needs: &[],
    program,
};

fn program(page: &mut Page, workspace: &Workspace) -> Result<()> {
    page.figure("shapes.txt", || shapes(workspace))?;
    page.figure("tied.txt", || tied(workspace))?;
    page.figure("first-loss.txt", || day07_weights::first_loss(workspace))?;
    page.figure("stream.txt", || day07_weights::stream(workspace))?;
    page.figure("stream.svg", || day07_weights::stream_picture(workspace))?;
    page.figure("count.txt", || day07_weights::count(workspace))?;
    page.figure("pytorch.txt", || day07_pytorch::pytorch(workspace))?;
    page.figure("training.txt", || {
        Ok(workspace.train_with_initial_checkpoint(&NANO)?.summary())
    })?;
    page.figure("before-and-after.txt", || before_and_after(workspace))?;
    page.figure("vectors.svg", || {
        let (labels, vectors) = workspace.embedding(NANO.folder)?;
        principal_components("What day 7 learned of each character", labels, &vectors)
    })?;
    page.claim(
        "the stages, one by one, are the model's forward pass",
        "Gpt::forward in src/model/gpt.rs",
        || {
            let (model, parameters, batch) = fresh(workspace, 2)?;
            let ids = inputs(&batch);
            let stages = stages(&model, &parameters, &parameters, &ids)?;
            let (_, logits) = stages.last().context("there is no stage")?;
            let whole = Gpt::new(&model, &parameters)?.forward(&ids, None)?;
            // The same operations in the same order.
            Ok(CheckResult::within_tolerance(largest_difference(logits, &whole)?, 0.0))
        },
    )?;
    page.claim(
        "the tied table's gradient is the sum of those of its two uses",
        "Gpt::logits in src/model/gpt.rs: the head must be wte",
        || {
            let (lookup, head, both) = gradients_of_uses(workspace)?;
            // Float32 sums in another order, as tests/parity.rs allows them.
            Ok(CheckResult::within_tolerance(
                largest_relative_difference(&[lookup.add(head)?], &[both])?,
                1e-5,
            ))
        },
    )?;
    page.claim(
        "an untrained model predicts nearly uniformly: its loss is ln(vocabulary) or little more",
        "the standard deviations in src/model/init.rs",
        || day07_weights::first_loss_is_that_of_the_unsure(workspace),
    )?;
    page.claim(
        "scaled by depth, the residual stream ends as large with 48 layers as with 12; unscaled it ends twice as large",
        "the standard deviation of the residual projections in src/model/init.rs",
        || day07_weights::scaled_stream_keeps_its_width(workspace),
    )?;
    page.claim("counted by hand, in the code and in OpenAI's models, all four published sizes have the same number of parameters", "layout in src/model/init.rs", || day07_weights::counts_are_the_published(workspace))?;
    page.claim(
        "the logits are PyTorch's",
        "the layers in src/model, from the first that day 3 built to Gpt::forward",
        || day07_pytorch::logits_are_pytorchs(workspace),
    )?;
    page.claim(
        "every gradient is PyTorch's",
        "gelu in src/model/mlp.rs, the loss in src/model/loss.rs",
        || day07_pytorch::gradients_are_pytorchs(workspace),
    )?;
    page.claim(
        "step-000000 is the untrained model",
        "move lessons/day-07 away and run the lesson again",
        || {
            let (_, drawn, _) = fresh(workspace, 1)?;
            let saved = untrained(workspace)?.parameters;
            let differences = drawn.arrays().iter().zip(saved.arrays());
            let differences = differences.map(|(a, b)| largest_difference(a, b));
            let largest = differences.collect::<Result<Vec<_>>>()?;
            // Written and read as float32.
            Ok(CheckResult::within_tolerance(
                largest.into_iter().fold(0.0, f32::max),
                0.0,
            ))
        },
    )?;
    page.claim(
        "the whole model has a lower loss than day 6's blocks",
        "the training of both: `lesson 6`, `lesson 7`",
        || lower_loss(workspace, &NANO, &BLOCKS),
    )?;
    Ok(())
}

/// The unchanged preset.
pub(super) const NANO: Recipe = Recipe {
    folder: "day-07",
    what: "GPT-2 of the preset's size",
    change: |config| config,
    starts_from: None,
    band: (1.92, 1.98),
};

/// The day's untrained model, and some rows of the validation text.
pub(super) fn fresh(workspace: &Workspace, rows: usize) -> Result<(ModelConfig, Parameters, Batch)> {
    let tokenizer = workspace.tokenizer()?;
    let model = workspace.config(&NANO)?.model(tokenizer.vocab_size());
    let parameters = initialize(&model, workspace.seed())?;
    let tokens = workspace.dataset().tokens(tokenizer, Split::Val)?.tokens;
    let batch = batches::eval_batches(&tokens, rows, rows, model.context).next();
    Ok((model, parameters, batch.context("the validation text is too short")?))
}

pub(super) fn inputs(batch: &Batch) -> Array {
    Array::from_slice(&batch.inputs, &[batch.rows as i32, batch.context() as i32])
}

// ANCHOR: stages
/// The output of each stage of the network for `ids`; the head's table may differ from the token embedding.
pub(super) fn stages(
    model: &ModelConfig,
    parameters: &Parameters,
    head: &Parameters,
    ids: &Array,
) -> MlxResult<Vec<(String, Array)>> {
    let mut x = Embeddings::new(model, parameters)?.forward(ids, 0)?;
    let mut stages = vec![("embeddings".to_owned(), x.clone())];
    for layer in 0..model.layers {
        let name = format!("h.{layer}");
        x = Block::new(&parameters.under(&name), model)?.forward(&x, None, None)?;
        stages.push((name, x.clone()));
    }
    x = LayerNorm::new(&parameters.under("ln_f"))?.forward(&x)?;
    stages.push(("ln_f".to_owned(), x.clone()));
    stages.push(("logits".to_owned(), Embeddings::new(model, head)?.wte().logits(&x)?));
    Ok(stages)
}
// ANCHOR_END: stages

fn shapes(workspace: &Workspace) -> Result<String> {
    let (model, parameters, batch) = fresh(workspace, 2)?;
    let ids = inputs(&batch);
    let mut text = String::new();
    let mut line = |name: &str, array: &Array, what: &str| {
        writeln!(text, "{name:<16} {:<14} {what}", format!("{:?}", array.shape()))
    };
    line("ids", &ids, "B rows of T tokens")?;
    let stages = stages(&model, &parameters, &parameters, &ids)?;
    let mut before: Option<&Array> = None;
    for (name, array) in &stages {
        if let (Some(x), "h.0") = (before, name.as_str()) {
            let scope = parameters.under("h.0");
            let normed = LayerNorm::new(&scope.under("ln_1"))?.forward(x)?;
            line("  ln_1", &normed, "each token's vector made of mean 0, deviation 1")?;
            let qkv = Linear::new(&scope.under("attn.c_attn"), &model)?.forward(&normed)?;
            line("  attn.c_attn", &qkv, "queries, keys and values of all heads: 3C")?;
            let attended = Attention::new(&scope.under("attn"), &model)?.forward(&normed, None, None)?;
            line("  attn", &attended, "what was gathered, added to the stream")?;
            let x = x.add(&attended)?;
            let normed = LayerNorm::new(&scope.under("ln_2"))?.forward(&x)?;
            let wide = Linear::new(&scope.under("mlp.c_fc"), &model)?.forward(&normed)?;
            line("  mlp.c_fc", &wide, "four times as wide: 4C")?;
            let thought = Mlp::new(&scope.under("mlp"), &model)?.forward(&normed, None)?;
            line("  mlp", &thought, "back to C, added to the stream")?;
        }
        let what = match name.as_str() {
            "embeddings" => "token and position: the stream begins, C wide",
            "ln_f" => "one last norm",
            "logits" => "a number for each token of the vocabulary V",
            _ => "after that block",
        };
        line(name, array, what)?;
        before = Some(array);
    }
    let targets = Array::from_slice(&batch.targets, ids.shape());
    let (_, logits) = stages.last().context("there is no stage")?;
    let losses = negative_log_likelihood(logits, &targets)?;
    line("losses", &losses, "how surprising each next token was")?;
    let loss: f32 = losses.mean(None)?.try_item_exact()?;
    writeln!(text, "loss             {loss:.4}         their mean")?;
    Ok(text)
}

/// Gradients of the table from the lookup only, from the head only, and from the tied model.
fn gradients_of_uses(workspace: &Workspace) -> Result<(Array, Array, Array)> {
    let (model, parameters, batch) = fresh(workspace, 4)?;
    let (ids, wte) = (inputs(&batch), parameters.get("wte.weight")?.clone());
    let targets = Array::from_slice(&batch.targets, ids.shape());
    let (_, others) = parameters.partition(|name, _| name == "wte.weight");
    let with = move |wte: &Array| others.with(&Parameters::from_entries(vec![("wte.weight".into(), wte.clone())]));
    let loss = move |tables: &[Array]| -> MlxResult<Vec<Array>> {
        let (lookup, head) = (with(&tables[0]), with(&tables[tables.len() - 1]));
        let stages = stages(&model, &lookup, &head, &ids)?;
        let logits = &stages[stages.len() - 1].1;
        Ok(vec![negative_log_likelihood(logits, &targets)?.mean(None)?])
    };
    let (_, apart) = value_and_grad_with_argnums(loss.clone(), &[0, 1][..])(&[wte.clone(), wte.clone()])?;
    let (_, tied) = value_and_grad_with_argnums(loss, &[0][..])(&[wte])?;
    Ok((apart[0].clone(), apart[1].clone(), tied[0].clone()))
}

fn tied(workspace: &Workspace) -> Result<String> {
    let (lookup, head, both) = gradients_of_uses(workspace)?;
    let norms =
        |gradient: &Array| -> Result<Vec<f32>> { Ok(gradient.square()?.sum_axis(-1, false)?.sqrt()?.to_vec_exact()?) };
    let (lookup, head, both) = (norms(&lookup)?, norms(&head)?, norms(&both)?);
    let (_, _, batch) = fresh(workspace, 4)?;
    let times = |id: u32| batch.inputs.iter().filter(|&&other| other == id).count();
    let mut ids: Vec<u32> = (0..lookup.len() as u32).collect();
    ids.sort_by_key(|&id| std::cmp::Reverse(times(id)));
    let shown = ids.iter().take(3).chain(ids.iter().rev().take(2));
    let mut text = format!(
        "{:<6} {:>9} {:>12} {:>12} {:>12}\n",
        "token", "in batch", "by lookup", "by head", "together"
    );
    for &id in shown {
        let label: String = workspace.tokenizer()?.decode(&[id])?.chars().map(visible).collect();
        let at = id as usize;
        writeln!(
            text,
            "{label:<6} {:>9} {:>12.6} {:>12.6} {:>12.6}",
            times(id),
            lookup[at],
            head[at],
            both[at]
        )?;
    }
    Ok(text)
}

fn untrained(workspace: &Workspace) -> Result<Checkpoint> {
    Checkpoint::load(&workspace.folder(NANO.folder).join("step-000000"))
}

fn before_and_after(workspace: &Workspace) -> Result<String> {
    let before = workspace.sample(&untrained(workspace)?, "\n", 150)?;
    let after = workspace.sample(&workspace.load(NANO.folder)?, "\n", 150)?;
    Ok(format!(
        "before the first step:\n\n{}\n\nafter the last:\n\n{}\n",
        before.trim_matches('\n'),
        after.trim_matches('\n')
    ))
}

//! Training of small models: by day 8's step, on little text or on much; of any weights, on any loss.

use std::collections::HashMap;

use anyhow::Context;
use mlx_rs::error::Result;
use mlx_rs::transforms::{eval, value_and_grad_with_argnums};
use mlx_rs::{Array, ops, random};

use super::day07::NANO;
use crate::course::day02::{cross_entropy, get_batch};
use crate::course::day03::Weights;
use crate::course::day07::{Shape, gpt, initialize};
use crate::course::day08::{Hyperparameters, adamw, clip, compiled_step, initial_state, learning_rate};
use crate::data::batches::{row_starts, step_rng};
use crate::data::corpus::Split;
use crate::disk::durable;
use crate::lessons::claims::CheckResult;
use crate::lessons::pictures::Series;
use crate::lessons::workspace::Workspace;

/// Trains a model of that many layers and channels on the first characters of the training text. Gives the losses on these and
/// on the validation text along the way.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn fit(
    workspace: &Workspace,
    name: &str,
    characters: usize,
    [layers, embd]: [i32; 2],
) -> anyhow::Result<[Series; 2]> {
    let (steps, context) = (workspace.at_most(600), 32);
    let tokenizer = workspace.tokenizer()?;
    let text: String = workspace.text(Split::Train).chars().take(characters).collect();
    let (learned, val) = (tokenizer.encode(&text)?, tokenizer.encode(workspace.text(Split::Val))?);
    let shape = Shape {
        vocab_size: tokenizer.vocab_size() as i32,
        context: context as i32,
        layers,
        heads: 2,
        embd,
    };
    let loss = |weights: &Weights, tokens: &[u32]| -> anyhow::Result<f64> {
        let starts: Vec<usize> = (0..64).map(|row| row * (tokens.len() - context) / 64).collect();
        let (ids, targets) = get_batch(tokens, &starts, context);
        let loss = cross_entropy(&gpt(&ids, weights, &shape)?, &targets)?;
        Ok(f64::from(loss.try_item_exact::<f32>()?))
    };
    let weights = initialize(&shape, &random::key(workspace.seed())?)?;
    let with = Hyperparameters::from(&workspace.config(&NANO)?);
    let mut train_step = compiled_step(weights.keys().cloned().collect(), shape, with);
    let mut state = initial_state(weights)?;
    let mut points = [Vec::new(), Vec::new()];
    for step in 0..=steps {
        if step.is_multiple_of((steps / 20).max(1)) {
            points[0].push((step as f64, loss(&state[0], &learned)?));
            points[1].push((step as f64, loss(&state[0], &val)?));
        }
        let starts = row_starts(&mut step_rng(workspace.seed(), step), 8, learned.len(), context);
        // ANCHOR: loop
        let (ids, targets) = get_batch(&learned, &starts, context); // [B, T]
        let lr = learning_rate(step, steps / 20, steps, 3e-3, 3e-4);
        (_, _, state) = train_step(state, [&ids, &targets], step + 1, lr)?;
        eval(state.iter().flat_map(Weights::values))?;
        // ANCHOR_END: loop
    }
    let [learned, val] = points;
    Ok([
        Series::new(format!("{name}: learned"), learned),
        Series::new(format!("{name}: validation"), val),
    ])
}

/// Weights after that many steps of AdamW, without weight decay, and the loss at each step; `loss` gets the weights and the number
/// of the step. The learning rate falls to a hundredth of `lr`.
///
/// # Errors
/// Those of `loss`.
pub fn minimize(
    mut weights: Weights,
    steps: u64,
    lr: f32,
    loss: impl Fn(&Weights, u64) -> Result<Array>,
) -> anyhow::Result<(Weights, Vec<f32>)> {
    let names: Vec<String> = weights.keys().cloned().collect();
    let every: Vec<i32> = (0..names.len() as i32).collect();
    let zeros: Vec<Array> = weights.values().map(ops::zeros_like).collect::<Result<_>>()?;
    let (mut m, mut v, mut losses) = (zeros.clone(), zeros, Vec::new());
    for step in 0..steps {
        let loss = |arrays: &[Array]| -> Result<Vec<Array>> {
            Ok(vec![loss(
                &names.iter().cloned().zip(arrays.iter().cloned()).collect(),
                step,
            )?])
        };
        let arrays: Vec<Array> = weights.values().cloned().collect();
        let (values, gradients) = value_and_grad_with_argnums(loss, every.as_slice())(&arrays)?;
        let (gradients, _) = clip(&gradients, 1.0)?;
        let rate = Array::from_f32(learning_rate(step, steps / 20, steps, lr, lr / 100.0));
        let number = Array::from_f32(step as f32 + 1.0);
        for (at, parameter) in weights.values_mut().enumerate() {
            let moments = [&m[at], &v[at]];
            [*parameter, m[at], v[at]] = adamw(parameter, &gradients[at], moments, &number, &rate, 0.99, 0.0)?;
        }
        eval(weights.values().chain(&m).chain(&v).chain(&values))?;
        losses.push(values[0].try_item_exact()?);
    }
    Ok((weights, losses))
}

/// What `train` says of a training. It leaves its weights in a file of the lessons' folder with what it said, so that a finished
/// day is shown again without training. `of` tells what else the weights depend on besides seed, text and steps.
///
/// # Errors
/// Those of `train`; a file that cannot be written.
pub fn trained_once(
    workspace: &Workspace,
    file: &str,
    steps: u64,
    of: &str,
    train: impl FnOnce() -> anyhow::Result<(Weights, String)>,
) -> anyhow::Result<String> {
    let path = workspace.folder(file);
    let options = format!("{} {} {of}", workspace.seed(), workspace.corpus());
    let mut metadata = HashMap::from([("options".to_owned(), options), ("steps".to_owned(), steps.to_string())]);
    if let Ok((_, mut kept)) = Array::load_safetensors_with_metadata(&path)
        && let Some(said) = kept.remove("said")
        && metadata.iter().all(|(key, value)| kept.get(key) == Some(value))
    {
        return Ok(said);
    }
    let (weights, said) = train()?;
    metadata.insert("said".into(), said.clone());
    let _made = durable::make_parents(&path)?;
    Array::save_safetensors(weights, &metadata, path)?;
    Ok(said)
}

/// The weights that [`trained_once`] left; none if they had fewer steps than `whole`.
///
/// # Errors
/// There is no such file, with the command that makes it.
pub fn trained(workspace: &Workspace, day: u8, file: &str, whole: u64) -> anyhow::Result<Option<Weights>> {
    let path = workspace.folder(file);
    let (weights, metadata) = Array::load_safetensors_with_metadata(&path).with_context(|| {
        let command = workspace.command(&day.to_string());
        format!("there are no weights in {}; make them with: {command}", path.display())
    })?;
    let steps: u64 = metadata.get("steps").and_then(|steps| steps.parse().ok()).unwrap_or(0);
    Ok((steps >= whole).then(|| weights.into_iter().collect()))
}

/// What a claim on a trained model says of one that is not trained to its end.
pub fn too_few_steps() -> CheckResult {
    CheckResult::Skipped("trained for only a few steps".into())
}

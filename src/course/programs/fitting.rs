//! Training of small models by day 8's step, on little text or on much.

use mlx_rs::random;
use mlx_rs::transforms::eval;

use super::day07::NANO;
use crate::course::day02::{cross_entropy, get_batch};
use crate::course::day03::Weights;
use crate::course::day07::{Shape, gpt, initialize};
use crate::course::day08::{Hyperparameters, compiled_step, initial_state, learning_rate};
use crate::data::batches::{row_starts, step_rng};
use crate::data::corpus::Split;
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

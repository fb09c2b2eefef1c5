//! Day 8: a step of training: gradients, clipping, AdamW and its rate, compiled; over- and underfitting; resuming.

use std::f64::consts::{LN_2, PI};

use mlx_rs::error::Result;
use mlx_rs::transforms::compile::compile;
use mlx_rs::transforms::value_and_grad_with_argnums;
use mlx_rs::{Array, ops};

use super::day02::cross_entropy;
use super::day03::Weights;
use super::day07::{Shape, gpt};

// ANCHOR: gradients
/// The mean cross entropy of a batch, a scalar, and its gradients for all weights, in the order of their names; ids and targets
/// are `[B, T]`.
///
/// # Exercise
/// MLX differentiates functions of a list of arrays: make the weights from the list again, by their names, then logits and
/// loss. `value_and_grad_with_argnums(loss, every)(&arrays)`, where `every` has the indices of all arrays.
pub fn loss_and_gradients(
    weights: &Weights,
    ids: &Array,
    targets: &Array,
    shape: &Shape,
) -> Result<(Array, Vec<Array>)> {
    let loss = |arrays: &[Array]| -> Result<Vec<Array>> {
        let weights = weights.keys().cloned().zip(arrays.iter().cloned()).collect();
        Ok(vec![cross_entropy(&gpt(ids, &weights, shape)?, targets)?])
    };
    let arrays: Vec<Array> = weights.values().cloned().collect();
    let every: Vec<i32> = (0..arrays.len() as i32).collect();
    let (losses, gradients) = value_and_grad_with_argnums(loss, every.as_slice())(&arrays)?;
    Ok((losses[0].clone(), gradients))
}
// ANCHOR_END: gradients

// ANCHOR: adamw
/// AdamW: a parameter, its `m` and its `v` after a step, all of one shape (Loshchilov and Hutter 2019, algorithm 2). The step,
/// t = 1, 2, …, and the learning rate are scalars, float32.
///
/// m ← 0.9 m + 0.1 g and v ← β₂ v + (1 − β₂) g². The update is m/(1 − 0.9ᵗ) divided by √(v/(1 − β₂ᵗ)) + 1e-8, plus the weight
/// decay times the parameter where that has two axes or more; the parameter loses lr times that.
///
/// # Exercise
/// Numbers become scalars by `Array::from_f32`; `multiply`, `add`, `square`, `power(step)`, `divide`, `sqrt`, `subtract`; `ndim`
/// says how many axes the parameter has.
pub fn adamw(
    parameter: &Array,
    gradient: &Array,
    [m, v]: [&Array; 2],
    step: &Array,
    lr: &Array,
    beta2: f32,
    weight_decay: f32,
) -> Result<[Array; 3]> {
    let number = Array::from_f32;
    let mean = |old: &Array, new: &Array, beta: f32| -> Result<Array> {
        old.multiply(number(beta))?.add(new.multiply(number(1.0 - beta))?)
    };
    let corrected = |mean: &Array, beta: f32| mean.divide(number(1.0).subtract(number(beta).power(step)?)?);
    let m = mean(m, gradient, 0.9)?;
    let v = mean(v, &gradient.square()?, beta2)?;
    let root = corrected(&v, beta2)?.sqrt()?;
    let mut update = corrected(&m, 0.9)?.divide(root.add(number(1e-8))?)?;
    if parameter.ndim() >= 2 {
        update = update.add(parameter.multiply(number(weight_decay))?)?;
    }
    Ok([parameter.subtract(update.multiply(lr)?)?, m, v])
}
// ANCHOR_END: adamw

// ANCHOR: schedule
/// The learning rate of a step, counted from 0: it rises along a line to `lr` in `warmup` steps, then falls along half a cosine,
/// which reaches `min_lr` one step after the last of `steps`.
///
/// In the warm-up lr · (step + 1)/(warmup + 1), then min_lr + (lr − min_lr) · (1 + cos(π · progress))/2.
///
/// # Exercise
/// Plain numbers. Compute in `f64`; progress goes from 0 after the warm-up to 1 at the end, and stays there.
pub fn learning_rate(step: u64, warmup: u64, steps: u64, lr: f32, min_lr: f32) -> f32 {
    let (lr, min_lr) = (f64::from(lr), f64::from(min_lr));
    let rate = if step < warmup {
        lr * (step + 1) as f64 / (warmup + 1) as f64
    } else {
        let progress = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
        min_lr + 0.5 * (1.0 + (PI * progress.min(1.0)).cos()) * (lr - min_lr)
    };
    rate as f32
}
// ANCHOR_END: schedule

// ANCHOR: clip
/// Gradients of any shapes, clipped to a norm of at most `max_norm`, all together, and their norm before, a scalar.
///
/// The norm is √(Σ g²) over all numbers of all gradients; each is multiplied by min(1, max_norm/(norm + 1e-6)).
///
/// # Exercise
/// `square`, `sum(None)`, `sqrt`; `ops::minimum`, `multiply`.
pub fn clip(gradients: &[Array], max_norm: f32) -> Result<(Vec<Array>, Array)> {
    let mut squares = Array::from_f32(0.0);
    for gradient in gradients {
        squares = squares.add(gradient.square()?.sum(None)?)?;
    }
    let norm = squares.sqrt()?;
    let ratio = Array::from_f32(max_norm).divide(norm.add(Array::from_f32(1e-6))?)?;
    let factor = ops::minimum(ratio, Array::from_f32(1.0))?;
    let clipped: Result<Vec<Array>> = gradients.iter().map(|gradient| gradient.multiply(&factor)).collect();
    Ok((clipped?, norm))
}
// ANCHOR_END: clip

// ANCHOR: step
/// What AdamW and clipping need besides the learning rate: the same in every step of a run.
#[derive(Clone, Copy, Debug)]
pub struct Hyperparameters {
    /// β₂, the decay of the mean of squared gradients; β₁ is 0.9.
    pub beta2: f32,
    /// Weight decay of matrices and embeddings, a factor of the learning rate.
    pub weight_decay: f32,
    /// The largest norm of all gradients together.
    pub grad_clip: f32,
}

/// What a step changes: the weights, the running means `m` of their gradients and `v` of the squares of these, all under the
/// weights' names.
pub type TrainState = [Weights; 3];

/// The state before the first step: `m` and `v` are zero.
pub fn initial_state(weights: Weights) -> Result<TrainState> {
    let zeros = weights
        .iter()
        .map(|(name, array)| Ok((name.clone(), ops::zeros_like(array)?)));
    let zeros: Weights = zeros.collect::<Result<_>>()?;
    Ok([weights, zeros.clone(), zeros])
}

/// A step of training on ids and targets `[B, T]`: the loss, the gradients' norm before clipping, both scalars, and the state
/// after the step. Step and rate are scalars, as in [`adamw`].
///
/// # Exercise
/// `loss_and_gradients`, then `clip`, then `adamw` for each name, whose parameter, `m` and `v` go into the three parts of the new
/// state: `zip`, `insert`.
pub fn train_step(
    state: &TrainState,
    [ids, targets]: [&Array; 2],
    [step, lr]: [&Array; 2],
    shape: &Shape,
    with: &Hyperparameters,
) -> Result<(Array, Array, TrainState)> {
    let [weights, m, v] = state;
    let (loss, gradients) = loss_and_gradients(weights, ids, targets, shape)?;
    let (gradients, norm) = clip(&gradients, with.grad_clip)?;
    let mut next = TrainState::default();
    for ((name, parameter), gradient) in weights.iter().zip(&gradients) {
        let moments = [&m[name], &v[name]];
        let updated = adamw(parameter, gradient, moments, step, lr, with.beta2, with.weight_decay)?;
        for (part, array) in next.iter_mut().zip(updated) {
            part.insert(name.clone(), array);
        }
    }
    Ok((loss, norm, next))
}
// ANCHOR_END: step

// ANCHOR: compiled
/// The state's arrays, one part after the other, each in the order of the names.
fn to_list(state: TrainState) -> Vec<Array> {
    state.into_iter().flat_map(Weights::into_values).collect()
}

/// The state of those arrays.
fn from_list(names: &[String], arrays: &[Array]) -> TrainState {
    let mut arrays = arrays.iter().cloned();
    [(); 3].map(|()| names.iter().cloned().zip(arrays.by_ref()).collect())
}

/// A step as a function of the state, ids and targets, the number of the step, from 1, and its rate; what it gives is as in
/// [`train_step`].
pub type Step = Box<dyn FnMut(TrainState, [&Array; 2], u64, f32) -> Result<(Array, Array, TrainState)>>;

/// [`train_step`], compiled, for weights of those names, which are sorted.
///
/// # Exercise
/// `compile(function, false)` compiles a function from a list of arrays to a list of arrays: `to_list`, `from_list`. Whatever
/// differs from step to step has to be in the list: batch, step, rate, state. All else is a constant of the compiled function.
pub fn compiled_step(names: Vec<String>, shape: Shape, with: Hyperparameters) -> Step {
    let inner_names = names.clone();
    let mut compiled = compile(
        move |list: &[Array]| -> Result<Vec<Array>> {
            let state = from_list(&inner_names, &list[4..]);
            let (loss, norm, next) = train_step(&state, [&list[0], &list[1]], [&list[2], &list[3]], &shape, &with)?;
            Ok([vec![loss, norm], to_list(next)].concat())
        },
        false,
    );
    Box::new(move |state, [ids, targets], step, lr| {
        let mut list = vec![ids.clone(), targets.clone()];
        list.extend([step as f32, lr].map(Array::from_f32));
        list.extend(to_list(state));
        let outputs = compiled(&list)?;
        Ok((outputs[0].clone(), outputs[1].clone(), from_list(&names, &outputs[2..])))
    })
}
// ANCHOR_END: compiled

// ANCHOR: bits_per_byte
/// Bits per byte of a text of so many bytes, cut into so many tokens, on which the mean loss is `loss`, in nats per token.
///
/// # Exercise
/// The loss of the whole text, in bits, over its bytes. A bit is ln 2 nats: `LN_2`.
pub fn bits_per_byte(loss: f64, tokens: usize, bytes: usize) -> f64 {
    loss * tokens as f64 / LN_2 / bytes as f64
}
// ANCHOR_END: bits_per_byte

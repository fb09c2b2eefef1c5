//! Day 8: a step of training: gradients, clipping, AdamW and its rate, compiled; over- and underfitting; resuming.

use std::f64::consts::PI;

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

// The day's program.

use std::fmt::Write;
use std::time::Instant;

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::transforms::eval;
use mlx_rs::{Device, random, with_device};

use super::day02::get_batch;
use super::day07::{NANO, initialize};
use crate::config::{self, TrainConfig};
use crate::data::batches::{row_starts, step_rng};
use crate::data::corpus::Split;
use crate::lessons::arrays::{ids_and_targets, largest, largest_difference, rows};
use crate::lessons::claims::{CheckResult, lower_loss};
use crate::lessons::gradients::{gradients, largest_relative_difference};
use crate::lessons::page::Page;
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::pytorch::PyTorch;
use crate::lessons::training::{interleaved, library_adamw, library_step, losses_during, stop_and_resume};
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::measure::bench::timing::{median, milliseconds};
use crate::terminal::console::say;
use crate::train::optimizers::schedule;

/// Day 8.
pub const LESSON: Lesson = Lesson {
    day: 8,
    title: "Training for real",
    teaches: "AdamW, schedule, clipping, accumulation; compiled steps; over- and underfitting; resuming; fair comparisons",
    chapter: include_str!("../../book/src/day-08.md"),
    models: &[FURTHER],
    needs: &[NANO.folder],
    program,
};

/// Day 7's model, trained for as long again.
pub const FURTHER: Recipe = Recipe {
    folder: "day-08",
    what: "GPT-2, trained for as long again",
    // Batches are drawn by the seed and the step: with another seed, the model sees others than on day 7.
    change: |config| TrainConfig {
        seed: config.seed.wrapping_add(8),
        ..config
    },
    starts_from: Some(NANO.folder),
    band: (1.80, 1.85),
};

fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let config = workspace.config(&NANO)?;
    let with = Hyperparameters::from(&config);
    let (model, parameters) = workspace.untrained(&NANO)?;
    let (shape, weights) = (Shape::from(&model), Weights::from(&parameters));
    let update = |[parameter, m, v]: &[Array; 3], gradient: &Array, t: i32| {
        let [step, lr] = [t as f32, config.lr].map(Array::from_f32);
        adamw(parameter, gradient, [m, v], &step, &lr, with.beta2, with.weight_decay)
    };
    let library = |state: &[Array; 3], gradient: &Array, t| library_adamw(&config, state, gradient, t);
    page.figure("adamw.txt", || {
        let (ours, library) = (three_steps(&[1, 2], update)?, three_steps(&[1, 2], library)?);
        let mut text = format!("lr {}, {with:?}\n\n", config.lr);
        text += "step  gradient          m            v    moved by        number  the library's\n";
        for (which, t) in [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)] {
            let at = |array: &Array| rows(array).map(|rows| rows[0][which]);
            let (gradient, number, library) = (GRADIENTS[t - 1][which], at(&ours[t][0])?, at(&library[t][0])?);
            let (m, v, moved) = (at(&ours[t][1])?, at(&ours[t][2])?, number - at(&ours[t - 1][0])?);
            writeln!(
                text,
                "{t:>4} {gradient:>9} {m:>10.5} {v:>12.3e} {moved:>11.6} {number:>13.8} {library:>14.8}"
            )?;
        }
        Ok(text)
    })?;
    page.claim(
        "AdamW is the library's, for matrices, whose weights decay, and for vectors",
        "adamw in src/course/day08.rs, AdamW::parameter in src/train/optimizers/adamw.rs",
        || {
            let off = |shape| {
                let (ours, library) = (three_steps(shape, update)?, three_steps(shape, library)?);
                largest_difference(&ours[3][0], &library[3][0])
            };
            let off = largest([off(&[1, 2])?, off(&[2])?]);
            // Numbers of a half in float32, rounded three times.
            Ok(CheckResult::within_tolerance(off, 2e-7))
        },
    )?;
    page.figure("bias.txt", || {
        let mut text = String::from("step       beta2 0.95       0.99      0.999\n");
        for t in [1, 2, 5, 10, 100, 1000] {
            let uncorrected = |beta2: f64| (1.0 - 0.9_f64.powi(t)) / (1.0 - beta2.powi(t)).sqrt();
            let [a, b, c] = [0.95, 0.99, 0.999].map(uncorrected);
            writeln!(text, "{t:<8} {a:>10.2} {b:>10.2} {c:>10.2}")?;
        }
        Ok(text)
    })?;
    page.figure("decay.txt", || {
        let count = |decayed: bool| {
            let of = weights.values().filter(|array| (array.ndim() >= 2) == decayed);
            let sizes: Vec<usize> = of.map(Array::size).collect();
            format!("{:>3} arrays, {:>7} numbers", sizes.len(), sizes.iter().sum::<usize>())
        };
        Ok(format!("decayed      {}\nnot decayed  {}\n", count(true), count(false)))
    })?;

    let rate = |step| learning_rate(step, config.warmup, config.steps, config.lr, config.min_lr);
    let same = (0..=config.steps).all(|step| rate(step) == schedule::learning_rate(&config, step));
    page.figure("schedule.svg", || {
        let points = (0..=config.steps).map(|step| (step as f64, 1e3 * f64::from(rate(step))));
        let axes = Axes::new("The learning rate over a run", "step", "rate, in thousandths");
        curves(&axes, &[Series::new("rate, at last", points.collect())])
    })?;
    page.claim(
        "the learning rate is the library's at every step",
        "learning_rate in src/course/day08.rs, learning_rate in src/train/optimizers/schedule.rs",
        || Ok(CheckResult::passes_if(same, format!("steps 0 to {}", config.steps))),
    )?;

    let rows = workspace.validation_batch(config.batch_size, model.context)?;
    let [ids, targets] = &ids_and_targets(&rows); // [B, T]
    let norms = |weights: &Weights| -> anyhow::Result<[f32; 2]> {
        let (_, gradients) = loss_and_gradients(weights, ids, targets, &shape)?;
        let (clipped, before) = clip(&gradients, with.grad_clip)?;
        let (_, after) = clip(&clipped, with.grad_clip)?;
        Ok([before.try_item_exact()?, after.try_item_exact()?])
    };
    let trained = Weights::from(&workspace.load(NANO.folder)?.parameters);
    let both = [norms(&weights)?, norms(&trained)?];
    let off = both.map(|[before, after]| before.min(with.grad_clip) - after);
    page.figure("clipping.txt", || {
        let [[first, first_clipped], [last, last_clipped]] = both;
        Ok(format!(
            "gradient's norm            as it is      clipped\n\
             before the first step    {first:>10.4} {first_clipped:>12.4}\n\
             after day 7              {last:>10.4} {last_clipped:>12.4}\n"
        ))
    })?;
    page.claim(
        "a clipped gradient's norm is the bound, and one below the bound is unchanged",
        "clip in src/course/day08.rs",
        // Float32 sums of squares, and the 1e-6 that prevents a division by zero.
        || Ok(CheckResult::within_tolerance(largest(off), 1e-5)),
    )?;

    let half = ids.dim(0) / 2;
    // ANCHOR: accumulation
    let (_, whole) = loss_and_gradients(&weights, ids, targets, &shape)?;
    let (_, first) = loss_and_gradients(&weights, &ids.try_index(..half)?, &targets.try_index(..half)?, &shape)?;
    let (_, second) = loss_and_gradients(&weights, &ids.try_index(half..)?, &targets.try_index(half..)?, &shape)?;
    let mean = |(a, b): (&Array, &Array)| a.add(b)?.divide(Array::from_f32(2.0));
    let means: Vec<Array> = first.iter().zip(&second).map(mean).collect::<Result<_>>()?;
    // ANCHOR_END: accumulation
    let off = largest_relative_difference(&means, &whole)?;
    page.figure("accumulation.txt", || {
        Ok(format!(
            "{} rows at once against 2 × {half}: largest difference, as a share of the largest gradient in each array, {off:.1e}\n",
            ids.dim(0)
        ))
    })?;
    page.claim(
        "two micro-batches of half the rows have the gradients of the whole batch, in the library too",
        "loss_and_gradients in src/course/day08.rs, gradient_work in src/train/step/workers.rs",
        || {
            let library = gradients(&model, &parameters, &rows, 2)?.gradients;
            let library_off = largest_relative_difference(&library, &whole)?;
            // Float32 sums in another order, as tests/parity.rs allows them.
            Ok(CheckResult::within_tolerance(largest([off, library_off]), 1e-5))
        },
    )?;

    let eager = |shape, with| -> Step {
        Box::new(move |state, batch, step, lr| {
            let [step, lr] = [step as f32, lr].map(Array::from_f32);
            train_step(&state, batch, [&step, &lr], &shape, &with)
        })
    };
    let pytorch = PyTorch::read()?;
    let recipe = pytorch.recipe(1, 1); // with a constant learning rate
    let (small, small_with) = (Shape::from(&pytorch.model), Hyperparameters::from(&recipe));
    let (drawn, batch) = (Weights::from(&pytorch.parameters), ids_and_targets(&pytorch.batch));
    let by_hand = ten_losses(repeated(&drawn, &batch, recipe.lr, eager(small, small_with))?)?;
    let library = || library_step(&recipe, &pytorch.model, &pytorch.parameters, &pytorch.batch);
    let theirs: Vec<f32> = pytorch.answer("losses")?.to_vec_exact()?;
    let off = |a: &[f32], b: &[f32]| largest(a.iter().zip(b).map(|(a, b)| a - b));
    page.figure("pytorch.txt", || {
        let mut text = String::from("step  train_step   library   PyTorch\n");
        for (step, library) in ten_losses(library()?)?.into_iter().enumerate() {
            let (number, ours, theirs) = (step + 1, by_hand[step], theirs[step]);
            writeln!(text, "{number:>4} {ours:>11.5} {library:>9.5} {theirs:>9.5}")?;
        }
        Ok(text)
    })?;
    page.claim(
        "ten steps of training have PyTorch's losses, by hand and in the library",
        "train_step in src/course/day08.rs, UpdateFn::update in src/train/step/update.rs",
        || {
            let off = largest([off(&by_hand, &theirs), off(&ten_losses(library()?)?, &theirs)]);
            // The least wrong recipe, another epsilon, would be off by 7e-4; the order of sums by less than this.
            Ok(CheckResult::within_tolerance(off, 2e-5))
        },
    )?;

    page.figure("lazy.txt", || {
        let x = Array::ones::<f32>(&[512, 512])?;
        eval([&x])?;
        // ANCHOR: lazy
        let started = Instant::now();
        let mut y = x.clone();
        for _ in 0..10 {
            y = y.matmul(&x)?;
        }
        let writing = started.elapsed();
        eval([&y])?;
        let computing = started.elapsed() - writing;
        // ANCHOR_END: lazy
        let [writing, computing] = [writing, computing].map(milliseconds);
        Ok(format!(
            "ten products written down in {writing:>8.3} ms\n             computed in     {computing:>8.3} ms\n"
        ))
    })?;

    let made = random::normal::<f32>(&[256, 256], None, None, &random::key(1)?)?; // on the preferred device
    let handle = made.clone();
    let same_place = made.try_as_slice::<f32>()?.as_ptr() == handle.try_as_slice::<f32>()?.as_ptr();
    page.figure("memory.txt", || {
        let by_cpu: f32 = with_device(Device::cpu(), || handle.sum(None))?.try_item_exact()?;
        let by_rust: f32 = made.try_as_slice::<f32>()?.iter().sum();
        let (device, bytes) = (Device::try_default()?.get_type()?, made.nbytes());
        let place = if same_place { "at the same bytes" } else { "elsewhere" };
        Ok(format!(
            "made by            {device:?}, {bytes} bytes\na second handle    points {place}\n\
             summed by the CPU  {by_cpu:.2}\nsummed in Rust     {by_rust:.2}, over the same memory\n"
        ))
    })?;
    page.claim(
        "a clone of an array shares its memory",
        "Array::clone in mlx-rs copies a handle",
        || Ok(CheckResult::passes_if(same_place, "two handles, one place".into())),
    )?;

    page.figure("compiled.txt", || {
        say("day 8: timing steps, eager and compiled");
        let (batch, names) = (ids_and_targets(&rows), weights.keys().cloned().collect());
        let mut eager = repeated(&weights, &batch, config.lr, eager(shape, with))?;
        let mut compiled = repeated(&weights, &batch, config.lr, compiled_step(names, shape, with))?;
        let mut library = library_step(&config, &model, &parameters, &rows)?;
        let times = interleaved(10, &mut [&mut eager, &mut compiled, &mut library])?;
        let mut text = String::from("                          first step   median of 9 more\n");
        let names = ["train_step, eager", "train_step, compiled", "the library's, compiled"];
        for (name, times) in names.iter().zip(times) {
            let (first, others) = (milliseconds(times[0]), milliseconds(median(times[1..].to_vec())));
            writeln!(text, "{name:<26} {first:>6.1} ms {others:>15.1} ms")?;
        }
        Ok(text)
    })?;
    page.claim(
        "a compiled step computes the same as an eager one",
        "compiled_step in src/course/day08.rs: a compiled function must be pure",
        || {
            let compiled = compiled_step(drawn.keys().cloned().collect(), small, small_with);
            let compiled = ten_losses(repeated(&drawn, &batch, recipe.lr, compiled)?)?;
            // Losses around 4 in float32; fused operations round in other places.
            Ok(CheckResult::within_tolerance(off(&compiled, &by_hand), 1e-5))
        },
    )?;

    let memorise = || fit(workspace, "a thousand characters", 1000, [2, 64]);
    page.figure("fitting.svg", || {
        say("day 8: memorising 1,000 characters; fitting the whole text with too small a model");
        let under = fit(workspace, "all text, 4 channels", usize::MAX, [1, 4])?;
        let lines: Vec<Series> = memorise()?.into_iter().chain(under).collect();
        let axes = Axes::new("Overfitting and underfitting", "step", "nats per token");
        curves(&axes, &lines)
    })?;
    page.claim(
        "a small model memorises a thousand characters, and its validation loss rises",
        "train_step in src/course/day08.rs: a correct one can overfit",
        || {
            let [learned, val] = memorise()?.map(|curve| curve.points.into_iter().map(|(_, loss)| loss));
            let least = val.clone().fold(f64::INFINITY, f64::min);
            let [learned, val] = [learned, val].map(|mut losses| losses.next_back().unwrap_or(f64::NAN));
            let measured = format!("learned text {learned:.2}; validation {least:.2} at its best, {val:.2} at the end");
            if workspace.at_most(600) < 600 {
                return Ok(CheckResult::Skipped(format!("too few steps: {measured}")));
            }
            Ok(CheckResult::passes_if(learned < 0.5 && val > least + 0.5, measured))
        },
    )?;

    let resumed = || -> anyhow::Result<(f32, [f64; 2])> {
        let [whole, resumed] = stop_and_resume(workspace, &config)?;
        let losses = [workspace.measure(&whole)?.0, workspace.measure(&resumed)?.0];
        let off = largest_relative_difference(resumed.parameters.arrays(), whole.parameters.arrays())?;
        Ok((off, losses))
    };
    page.figure("resume.txt", || {
        let (off, [whole, resumed]) = resumed()?;
        Ok(format!(
            "loss after 20 steps: {whole:.6} never stopped, {resumed:.6} stopped after 10 and resumed\n\
             largest difference of the weights, as a share of the largest in each array, {off:.1e}\n"
        ))
    })?;
    page.claim(
        "a run that was stopped and resumed equals one that was never stopped",
        "Session::resume in src/train/session.rs; batches and masks must be functions of the step",
        || {
            let (off, [whole, resumed]) = resumed()?;
            Ok(match config::Device::current()? {
                config::Device::Cpu => CheckResult::within_tolerance(off, 0.0),
                // GPUs may sum in no fixed order.
                config::Device::Gpu => CheckResult::within_tolerance((whole - resumed).abs() as f32, 1e-3),
            })
        },
    )?;

    page.figure("training.txt", || Ok(workspace.train(&FURTHER)?.summary()))?;
    page.claim(
        "the loss is lower than after day 7",
        "the training of both: `lesson 7`, `lesson 8`",
        || lower_loss(workspace, &FURTHER, &NANO),
    )?;
    page.figure("losses.svg", || {
        let axes = Axes::new("Days 7 and 8, one after the other", "step", "nats per token");
        curves(&axes, &losses_during(workspace, &[NANO.folder, FURTHER.folder])?)
    })
}

impl From<&TrainConfig> for Hyperparameters {
    fn from(config: &TrainConfig) -> Self {
        Self {
            beta2: config.beta2,
            weight_decay: config.weight_decay,
            grad_clip: config.grad_clip,
        }
    }
}

/// The gradients of three steps for two numbers: large ones, and small ones of changing sign.
const GRADIENTS: [[f32; 2]; 3] = [[10.0, 0.001], [12.0, -0.002], [9.0, 0.001]];

/// Two numbers, with `m` and `v`, before and after each of the three steps, in arrays of that shape.
fn three_steps(
    shape: &[i32],
    update: impl Fn(&[Array; 3], &Array, i32) -> Result<[Array; 3]>,
) -> Result<Vec<[Array; 3]>> {
    let zeros = Array::zeros::<f32>(shape)?;
    let mut states = vec![[Array::from_slice(&[0.5f32, -0.5], shape), zeros.clone(), zeros]];
    for (gradient, t) in GRADIENTS.iter().zip(1..) {
        let gradient = Array::from_slice(gradient, shape);
        states.push(update(&states[states.len() - 1], &gradient, t)?);
    }
    Ok(states)
}

/// A step that is repeated on one batch, from those weights on: each call gives its loss.
fn repeated(
    weights: &Weights,
    [ids, targets]: &[Array; 2],
    lr: f32,
    mut step: Step,
) -> Result<impl FnMut() -> anyhow::Result<f32>> {
    let (mut state, mut number) = (initial_state(weights.clone())?, 0);
    Ok(move || {
        let loss;
        number += 1;
        (loss, _, state) = step(std::mem::take(&mut state), [ids, targets], number, lr)?;
        eval(state.iter().flat_map(Weights::values))?;
        Ok(loss.try_item_exact()?)
    })
}

fn ten_losses(mut step: impl FnMut() -> anyhow::Result<f32>) -> anyhow::Result<Vec<f32>> {
    (0..10).map(|_| step()).collect()
}

/// Trains a model of that many layers and channels on the first characters of the training text. Gives the losses on these and
/// on the validation text along the way.
fn fit(workspace: &Workspace, name: &str, characters: usize, [layers, embd]: [i32; 2]) -> anyhow::Result<[Series; 2]> {
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

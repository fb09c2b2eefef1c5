//! Day 8: the figures and claims of its chapter, in its order.

use std::fmt::Write;
use std::time::Instant;

use mlx_rs::error::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Device, random, with_device};

use super::day07::NANO;
use super::fitting::fit;
use super::vocabularies;
use crate::config::{self, TrainConfig};
use crate::course::day03::Weights;
use crate::course::day07::Shape;
use crate::course::day08::{
    Hyperparameters, Step, adamw, clip, compiled_step, initial_state, learning_rate, loss_and_gradients, train_step,
};
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
    chapter: include_str!("../../../book/src/day-08.md"),
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
    })?;
    vocabularies::compare(page, workspace)
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

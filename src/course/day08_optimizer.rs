//! Day 8, what a step does with gradients: AdamW, the schedule, clipping, accumulation.

use std::fmt::Write;

use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::error::Result as MlxResult;

use super::day07::NANO;
use super::day08_machine::fresh;
use crate::config::Optimizer;
use crate::lessons::arrays::largest_difference;
use crate::lessons::claims::CheckResult;
use crate::lessons::gradients::{gradients, in_parts, largest_relative_difference};
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::pytorch::PyTorch;
use crate::lessons::workspace::Workspace;
use crate::model::Parameters;
use crate::model::init::layout;
use crate::train::optimizers::adamw::{AdamW, BETA1, EPSILON, Scalars};
use crate::train::optimizers::schedule::learning_rate;
use crate::train::step::control::{clip_coefficient, global_norm, sum_of_squares};
use crate::train::step::{Stepper, TrainState};

/// Two parameters, with the gradients of three steps for each: large and small ones.
const NUMBERS: [f32; 2] = [0.5, -0.5];
const GRADIENTS: [[f32; 2]; 3] = [[10.0, 0.001], [12.0, -0.002], [9.0, 0.001]];

// ANCHOR: by_hand
/// AdamW for one number: its value, and the running means of its gradient and squared gradient.
#[derive(Clone, Copy)]
struct ByHand {
    number: f64,
    m: f64,
    v: f64,
}

impl ByHand {
    /// Step `t`, counted from 1.
    fn step(self, gradient: f64, t: i32, lr: f64, beta2: f64, weight_decay: f64) -> Self {
        let m = 0.9 * self.m + 0.1 * gradient;
        let v = beta2 * self.v + (1.0 - beta2) * gradient * gradient;
        let m_corrected = m / (1.0 - 0.9_f64.powi(t));
        let v_corrected = v / (1.0 - beta2.powi(t));
        let step = m_corrected / (v_corrected.sqrt() + 1e-8) + weight_decay * self.number;
        Self {
            number: self.number - lr * step,
            m,
            v,
        }
    }
}
// ANCHOR_END: by_hand

/// The same by the library, for an array of numbers.
#[derive(Clone)]
struct LibraryAdamW {
    parameter: Array,
    m: Array,
    v: Array,
}

impl LibraryAdamW {
    fn new(parameter: Array) -> MlxResult<Self> {
        let zeros = Array::zeros::<f32>(parameter.shape())?;
        Ok(Self {
            parameter,
            m: zeros.clone(),
            v: zeros,
        })
    }

    fn step(&self, adamw: AdamW, gradient: &Array, scalars: &Scalars) -> MlxResult<Self> {
        let [m, v] = adamw.moments([&self.m, &self.v], gradient, scalars)?;
        let parameter = adamw.parameter(&self.parameter, [&m, &v], scalars)?;
        Ok(Self { parameter, m, v })
    }
}

/// The two numbers after each step, by hand and by the library.
fn both_ways(workspace: &Workspace) -> Result<Vec<([ByHand; 2], LibraryAdamW)>> {
    let config = workspace.config(&NANO)?;
    let adamw = AdamW {
        beta2: config.beta2,
        weight_decay: config.weight_decay,
    };
    let matrix = |numbers: [f32; 2]| Array::from_slice(&numbers, &[1, 2]);
    let mut library = LibraryAdamW::new(matrix(NUMBERS))?;
    let mut hand = NUMBERS.map(|number| ByHand {
        number: f64::from(number),
        m: 0.0,
        v: 0.0,
    });
    let (lr, beta2, decay) = (
        f64::from(config.lr),
        f64::from(config.beta2),
        f64::from(config.weight_decay),
    );
    let mut steps = Vec::new();
    for (t, gradient) in (1..).zip(GRADIENTS) {
        let correction = |beta: f32| Array::from_f32((1.0 / (1.0 - f64::from(beta).powi(t))) as f32);
        let scalars = Scalars {
            lr: Array::from_f32(config.lr),
            clip_coefficient: Array::from_f32(1.0),
            m_correction: correction(BETA1),
            v_correction: correction(config.beta2),
        };
        library = library.step(adamw, &matrix(gradient), &scalars)?;
        for (number, gradient) in hand.iter_mut().zip(gradient) {
            *number = number.step(f64::from(gradient), t, lr, beta2, decay);
        }
        steps.push((hand, library.clone()));
    }
    Ok(steps)
}

/// Figure: AdamW on two numbers, by hand and by the library.
pub fn adamw(workspace: &Workspace) -> Result<String> {
    let config = workspace.config(&NANO)?;
    let mut text = format!(
        "lr {}, beta1 {BETA1}, beta2 {}, epsilon {EPSILON:e}, weight decay {}\n\n",
        config.lr, config.beta2, config.weight_decay
    );
    writeln!(
        text,
        "{:>4} {:>9} {:>10} {:>12} {:>10} {:>13} {:>13}",
        "step", "gradient", "m", "v", "moved by", "by hand", "library"
    )?;
    let steps = both_ways(workspace)?;
    for which in 0..2 {
        let mut before = f64::from(NUMBERS[which]);
        for (t, (hand, library)) in (1..).zip(&steps) {
            let hand = hand[which];
            let library: Vec<f32> = library.parameter.flatten(None, None)?.to_vec_exact()?;
            writeln!(
                text,
                "{t:>4} {:>9} {:>10.5} {:>12.3e} {:>10.6} {:>13.8} {:>13.8}",
                GRADIENTS[t - 1][which],
                hand.m,
                hand.v,
                hand.number - before,
                hand.number,
                library[which]
            )?;
            before = hand.number;
        }
        text.push('\n');
    }
    Ok(text)
}

/// Claim: both agree.
pub fn adamw_is_by_hand(workspace: &Workspace) -> Result<CheckResult> {
    let mut largest = 0.0_f32;
    for (hand, library) in both_ways(workspace)? {
        let hand = hand.map(|number| number.number as f32);
        largest = largest.max(largest_difference(
            &library.parameter,
            &Array::from_slice(&hand, &[1, 2]),
        )?);
    }
    // Numbers of a half in float32, rounded three times.
    Ok(CheckResult::within_tolerance(largest, 2e-7))
}

/// Figure: the factor of the first steps without bias correction, for equal gradients.
pub fn bias(_: &Workspace) -> Result<String> {
    let mut text = String::from("step       beta2 0.95       0.99      0.999\n");
    for t in [1, 2, 5, 10, 100, 1000] {
        write!(text, "{t:<8}")?;
        for beta2 in [0.95_f64, 0.99, 0.999] {
            let uncorrected = (1.0 - f64::from(BETA1).powi(t)) / (1.0 - beta2.powi(t)).sqrt();
            write!(text, " {uncorrected:>10.2}")?;
        }
        text.push('\n');
    }
    Ok(text)
}

/// Figure: weight decay without gradients.
pub fn decay(workspace: &Workspace) -> Result<String> {
    let (model, ..) = fresh(workspace, 1)?;
    let specs = layout(&model);
    let mut text = String::new();
    for (what, decays) in [("decayed", true), ("not decayed", false)] {
        let of: Vec<_> = specs.iter().filter(|spec| (spec.shape.len() >= 2) == decays).collect();
        let numbers: i32 = of.iter().map(|spec| spec.shape.iter().product::<i32>()).sum();
        let names: Vec<&str> = of.iter().map(|spec| spec.name.as_str()).take(5).collect();
        writeln!(
            text,
            "{what:<12} {:>3} arrays, {numbers:>7} numbers: {}, …",
            of.len(),
            names.join(", ")
        )?;
    }
    Ok(text)
}

/// Claim: without a gradient, a step shrinks a matrix by the fraction `lr · weight_decay` and leaves a vector unchanged.
pub fn decay_is_decoupled(workspace: &Workspace) -> Result<CheckResult> {
    let config = workspace.config(&NANO)?;
    let adamw = AdamW {
        beta2: config.beta2,
        weight_decay: config.weight_decay,
    };
    let one = Array::from_f32(1.0);
    let scalars = Scalars {
        lr: Array::from_f32(config.lr),
        clip_coefficient: one.clone(),
        m_correction: one.clone(),
        v_correction: one,
    };
    let after = |shape: &[i32]| -> Result<f32> {
        let zeros = Array::zeros::<f32>(shape)?;
        Ok(LibraryAdamW::new(Array::ones::<f32>(shape)?)?
            .step(adamw, &zeros, &scalars)?
            .parameter
            .max(None)?
            .try_item_exact()?)
    };
    let (matrix, vector) = (after(&[2, 2])?, after(&[4])?);
    let shrunk = (matrix - (1.0 - config.lr * config.weight_decay)).abs();
    // One rounding of a number near 1.
    Ok(CheckResult::within_tolerance(shrunk.max((vector - 1.0).abs()), 1e-7))
}

/// Figure: the learning rate over the steps.
pub fn schedule(workspace: &Workspace) -> Result<String> {
    let config = workspace.config(&NANO)?;
    let points = (0..=config.steps).map(|step| (step as f64, 1e3 * f64::from(learning_rate(&config, step))));
    let axes = Axes {
        title: "The learning rate over a run",
        x: "step",
        y: "rate, in thousandths",
        ..Axes::default()
    };
    let curve = Series {
        name: "rate, at last".into(),
        points: points.collect(),
    };
    curves(&axes, &[curve])
}

/// The norm of a batch's gradient before and after clipping, of the untrained model and of day 7's.
fn norms(workspace: &Workspace) -> Result<Vec<(&'static str, f32, f32)>> {
    let (model, drawn, batch) = fresh(workspace, 12)?;
    let trained = workspace.load(NANO.folder)?.parameters;
    let max_norm = workspace.config(&NANO)?.grad_clip;
    let mut norms = Vec::new();
    for (name, parameters) in [("before the first step", drawn), ("after day 7", trained)] {
        let mut gradients = gradients(&model, &parameters, &batch, 1)?.gradients;
        let norm = norm_of(&gradients)?;
        let coefficient = clip_coefficient(&norm, max_norm)?;
        for gradient in &mut gradients {
            *gradient = gradient.multiply(&coefficient)?;
        }
        norms.push((name, norm.try_item_exact()?, norm_of(&gradients)?.try_item_exact()?));
    }
    Ok(norms)
}

fn norm_of(gradients: &[Array]) -> Result<Array> {
    let squares: Vec<Array> = gradients.iter().map(sum_of_squares).collect::<MlxResult<_>>()?;
    Ok(global_norm(&squares)?)
}

/// Figure: gradient norms before and after clipping.
pub fn clipping(workspace: &Workspace) -> Result<String> {
    let mut text = format!("{:<24} {:>10} {:>12}\n", "gradient's norm", "as it is", "clipped");
    for (name, before, after) in norms(workspace)? {
        writeln!(text, "{name:<24} {before:>10.4} {after:>12.4}")?;
    }
    Ok(text)
}

/// Claim: a clipped norm is the bound, and a smaller one is unchanged.
pub fn clipped_norms_are_bounded(workspace: &Workspace) -> Result<CheckResult> {
    let max_norm = workspace.config(&NANO)?.grad_clip;
    let wrong = norms(workspace)?
        .iter()
        .map(|(_, before, after)| (before.min(max_norm) - after).abs())
        .fold(0.0, f32::max);
    // Float32 sums of squares, and the 1e-6 that prevents a division by zero.
    Ok(CheckResult::within_tolerance(wrong, 1e-5))
}

/// Difference between the gradients of twelve rows at once and of two micro-batches of six.
fn apart(workspace: &Workspace) -> Result<f32> {
    let (model, parameters, batch) = fresh(workspace, 12)?;
    let whole = gradients(&model, &parameters, &batch, 1)?;
    let halves = gradients(&model, &parameters, &batch, 2)?;
    largest_relative_difference(&halves.gradients, &whole.gradients)
}

/// Figure: gradients of one batch and of two micro-batches.
pub fn accumulation(workspace: &Workspace) -> Result<String> {
    Ok(format!(
        "12 rows at once against 2 × 6: largest difference, as a share of the largest gradient in each array, {:.1e}\n",
        apart(workspace)?
    ))
}

/// Claim: both are the same.
pub fn accumulated_is_whole(workspace: &Workspace) -> Result<CheckResult> {
    // Float32 sums in another order, as tests/parity.rs allows them.
    Ok(CheckResult::within_tolerance(apart(workspace)?, 1e-5))
}

/// The losses of ten steps on one batch, here and by PyTorch.
fn ten_losses() -> Result<(Vec<f32>, Vec<f32>)> {
    let pytorch = PyTorch::read()?;
    let model = &pytorch.model;
    let mut stepper = Stepper::new(
        &pytorch.recipe(1, 1),
        model,
        &pytorch.parameters,
        &Parameters::default(),
    )?;
    let mut state = TrainState::new(pytorch.parameters.clone(), Parameters::default(), Optimizer::Adamw)?;
    let ours = (0..10).map(|_| Ok(stepper.step(&mut state, in_parts(model, &pytorch.batch, 1))?.loss));
    let ours = ours.collect::<Result<Vec<f32>>>()?;
    Ok((ours, pytorch.answer("losses")?.to_vec_exact()?))
}

/// Figure: losses of ten steps, here and in PyTorch.
pub fn pytorch(_: &Workspace) -> Result<String> {
    let mut text = String::from("step   mlx-gpt   PyTorch\n");
    let (ours, theirs) = ten_losses()?;
    for (step, (ours, theirs)) in (1..).zip(ours.iter().zip(theirs)) {
        writeln!(text, "{step:>4} {ours:>9.5} {theirs:>9.5}")?;
    }
    Ok(text)
}

/// Claim: both are the same.
pub fn losses_are_pytorchs(_: &Workspace) -> Result<CheckResult> {
    let (ours, theirs) = ten_losses()?;
    let largest = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // The least wrong recipe, another epsilon, would be off by 7e-4; the order of sums by less than this.
    Ok(CheckResult::within_tolerance(largest, 2e-5))
}

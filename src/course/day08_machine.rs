//! Day 8, lazy evaluation, unified memory, compiled steps.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use mlx_rs::transforms::compile::{disable_compile, enable_compile};
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Device, random, with_device};

use super::day07::NANO;
use crate::config::{ModelConfig, Optimizer};
use crate::data::batches::Batch;
use crate::lessons::arrays::largest_difference;
use crate::lessons::claims::CheckResult;
use crate::lessons::gradients::in_parts;
use crate::lessons::workspace::Workspace;
use crate::measure::bench::timing::{median, milliseconds};
use crate::model::Parameters;
use crate::terminal::console::say;
use crate::train::step::{Stepper, TrainState};

/// Repetitions of each timing.
const ROUNDS: usize = 9;

/// Ten products of matrices of 512 × 512: the time to build the graph, and the time to evaluate it.
pub fn lazy(workspace: &Workspace) -> Result<String> {
    let x = random::normal::<f32>(
        &[512, 512],
        None,
        1.0 / 512.0_f32.sqrt(),
        &random::key(workspace.seed())?,
    )?;
    eval([&x])?;
    let (mut writing, mut computing) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // ANCHOR: lazy
        let started = Instant::now();
        let mut y = x.clone();
        for _ in 0..10 {
            y = y.matmul(&x)?;
        }
        writing.push(started.elapsed());
        let started = Instant::now();
        eval([&y])?;
        computing.push(started.elapsed());
        // ANCHOR_END: lazy
    }
    Ok(format!(
        "ten products written down in {:>8.3} ms\n             computed in     {:>8.3} ms\n(medians of {ROUNDS} rounds)\n",
        milliseconds(median(writing)),
        milliseconds(median(computing))
    ))
}

/// Whether two handles of an array share memory, and whether a CPU operation reads what the preferred device computed.
fn one_buffer() -> Result<(Array, bool, f32)> {
    let made = random::normal::<f32>(&[256, 256], None, None, &random::key(1)?)?; // on the preferred device
    eval([&made])?;
    let handle = made.clone();
    let same_place = made.try_as_slice::<f32>()?.as_ptr() == handle.try_as_slice::<f32>()?.as_ptr();
    let sum = with_device(Device::cpu(), || handle.sum(None))?.try_item_exact()?;
    Ok((made, same_place, sum))
}

/// Figure: handles of an array that share memory.
pub fn memory(_: &Workspace) -> Result<String> {
    let (made, same_place, sum) = one_buffer()?;
    let ours: f32 = made.try_as_slice::<f32>()?.iter().sum();
    Ok(format!(
        "made by            {:?}, {} bytes\na second handle    {}\nsummed by the CPU  {sum:.2}\nsummed in Rust     {ours:.2}, over the same memory\n",
        Device::try_default()?.get_type()?,
        made.nbytes(),
        if same_place {
            "points at the same bytes"
        } else {
            "points elsewhere"
        }
    ))
}

/// Claim: a clone of an array shares its memory.
pub fn handles_share_memory(_: &Workspace) -> Result<CheckResult> {
    let (_, same_place, _) = one_buffer()?;
    Ok(CheckResult::passes_if(
        same_place,
        "two handles, one place in memory".into(),
    ))
}

/// An untrained model of day 7, and rows of the validation text.
pub(super) fn fresh(workspace: &Workspace, rows: usize) -> Result<(ModelConfig, Parameters, Batch)> {
    let (model, parameters) = workspace.untrained(&NANO)?;
    let batch = workspace.validation_batch(rows, model.context)?;
    Ok((model, parameters, batch))
}

/// A training step of the day's model, compiled or not.
struct TimedStepper {
    model: ModelConfig,
    stepper: Stepper,
    state: TrainState,
    batch: Batch,
    compiles: bool,
}

impl TimedStepper {
    fn new(workspace: &Workspace, compiles: bool) -> Result<Self> {
        let config = workspace.config(&NANO)?;
        let (model, parameters, batch) = fresh(workspace, config.batch_size)?;
        Ok(Self {
            stepper: Stepper::new(&config, &model, &parameters, &Parameters::default())?,
            model,
            state: TrainState::new(parameters, Parameters::default(), Optimizer::Adamw)?,
            batch,
            compiles,
        })
    }

    fn step(&mut self) -> Result<Duration> {
        let micro_batches = in_parts(&self.model, &self.batch, 1);
        if !self.compiles {
            disable_compile();
        }
        let started = Instant::now();
        let done = self.stepper.step(&mut self.state, micro_batches);
        let time = started.elapsed();
        enable_compile();
        done?;
        Ok(time)
    }
}

/// Figure: step times with and without compilation.
pub fn compiled(workspace: &Workspace) -> Result<String> {
    say("day 8: timing steps, eager and compiled");
    let mut trials = [
        TimedStepper::new(workspace, false)?,
        TimedStepper::new(workspace, true)?,
    ];
    let mut times = [Vec::new(), Vec::new()];
    let mut first = [Duration::ZERO; 2];
    // Interleaved, so that other work on the machine affects both equally.
    for round in 0..=ROUNDS {
        for (which, trial) in trials.iter_mut().enumerate() {
            let time = trial.step()?;
            match round {
                0 => first[which] = time,
                _ => times[which].push(time),
            }
        }
    }
    let mut text = format!(
        "{:<10} {:>12} {:>24}\n",
        "",
        "first step",
        format!("median of {ROUNDS} more")
    );
    for (name, (first, times)) in ["eager", "compiled"].iter().zip(first.into_iter().zip(times)) {
        writeln!(
            text,
            "{name:<10} {:>9.1} ms {:>21.1} ms",
            milliseconds(first),
            milliseconds(median(times))
        )?;
    }
    Ok(text)
}

/// Claim: a compiled step computes the same as an eager one.
pub fn compiled_is_eager(workspace: &Workspace) -> Result<CheckResult> {
    let mut trials = [
        TimedStepper::new(workspace, false)?,
        TimedStepper::new(workspace, true)?,
    ];
    for trial in &mut trials {
        trial.step()?;
    }
    let mut largest = 0.0_f32;
    for (a, b) in trials[0].state.m.arrays().iter().zip(trials[1].state.m.arrays()) {
        largest = largest.max(largest_difference(a, b)?);
    }
    // A tenth of the gradients, which are clipped to a norm of at most 1: fused operations round in other places.
    Ok(CheckResult::within_tolerance(largest, 1e-6))
}

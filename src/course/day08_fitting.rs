//! Day 8, over- and underfitting, and resuming.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::day07::NANO;
use crate::checkpoint::run::Run;
use crate::config::Device;
use crate::config::{Optimizer, TrainConfig};
use crate::data::batches;
use crate::data::corpus::Split;
use crate::data::tokens::Tokens;
use crate::disk::durable;
use crate::disk::unfinished::Unfinished;
use crate::evaluate::{Evaluation, Evaluator};
use crate::lessons::claims::CheckResult;
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::workspace::Workspace;
use crate::model::Parameters;
use crate::model::init::initialize;
use crate::terminal::console::say;
use crate::train::metrics::{self, Record};
use crate::train::step::{Stepper, TrainState};
use crate::train::{Session, Unattended, train};

/// Characters of the memorised text.
const SLICE: usize = 1000;

/// A model, and the amount of text that it is trained on.
struct FittingExperiment {
    name: &'static str,
    layers: usize,
    embd: usize,
    characters: usize,
}

const OVERFITTING: FittingExperiment = FittingExperiment {
    name: "a thousand characters",
    layers: 2,
    embd: 64,
    characters: SLICE,
};
const UNDERFITTING: FittingExperiment = FittingExperiment {
    name: "all text, 4 channels",
    layers: 1,
    embd: 4,
    characters: usize::MAX,
};

impl FittingExperiment {
    fn config(&self, workspace: &Workspace) -> Result<TrainConfig> {
        let steps = workspace.at_most(600);
        Ok(TrainConfig {
            layers: self.layers,
            heads: 2,
            embd: self.embd,
            context: 32,
            batch_size: 8,
            steps,
            lr: 3e-3,
            min_lr: 3e-4,
            warmup: steps / 20,
            dropout: 0.0,
            threads: 1,
            ..workspace.config(&NANO)?
        })
    }

    /// Trains it, and measures both losses along the way.
    fn run(&self, workspace: &Workspace) -> Result<[Series; 2]> {
        let config = self.config(workspace)?;
        let tokenizer = workspace.tokenizer()?;
        let text: String = workspace.text(Split::Train).chars().take(self.characters).collect();
        let learned = Tokens::Memory(tokenizer.encode(&text)?);
        let val = workspace.dataset().tokens(tokenizer, Split::Val)?.tokens;
        let model = config.model(tokenizer.vocab_size());
        let parameters = initialize(&model, config.seed)?;
        let mut evaluator = Evaluator::new(&model, parameters.names(), 1)?;
        let mut stepper = Stepper::new(&config, &model, &parameters, &Parameters::default())?;
        let mut state = TrainState::new(parameters, Parameters::default(), Optimizer::Adamw)?;
        let mut loss = |state: &TrainState, tokens: &Tokens| -> Result<(f64, f64)> {
            let mut total = Evaluation::default();
            for losses in evaluator.losses(&state.parameters, batches::eval_batches(tokens, 64, 8, config.context))? {
                total.add(&losses);
            }
            Ok((state.step as f64, total.loss()))
        };
        let mut points = [Vec::new(), Vec::new()];
        loop {
            if state.step.is_multiple_of((config.steps / 20).max(1)) {
                points[0].push(loss(&state, &learned)?);
                points[1].push(loss(&state, &val)?);
            }
            if state.step == config.steps {
                break;
            }
            let micro_batches = stepper.micro_batches(&learned, state.step);
            stepper.step(&mut state, micro_batches)?;
        }
        let [learned, val] = points;
        let curve = |what: &str, points| Series {
            name: format!("{}: {what}", self.name),
            points,
        };
        Ok([curve("learned", learned), curve("validation", val)])
    }
}

/// Figure: losses of an overfitting and an underfitting model.
pub fn fitting(workspace: &Workspace) -> Result<String> {
    say("day 8: memorising 1,000 characters; fitting the whole text with too small a model");
    let [over, under] = [OVERFITTING.run(workspace)?, UNDERFITTING.run(workspace)?];
    let axes = Axes {
        title: "Overfitting and underfitting",
        x: "step",
        y: "nats per token",
        ..Axes::default()
    };
    let lines: Vec<Series> = over.into_iter().chain(under).collect();
    curves(&axes, &lines)
}

/// The lowest validation loss of an overfitting model, and both final losses.
pub fn overfitted(workspace: &Workspace) -> Result<CheckResult> {
    let [learned, val] = OVERFITTING.run(workspace)?;
    let last = |curve: &Series| curve.points.last().map_or(f64::NAN, |point| point.1);
    let least = val.points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let measured = format!(
        "learned text {:.2}; validation {least:.2} at its best and {:.2} at the end",
        last(&learned),
        last(&val)
    );
    if workspace.at_most(600) < 600 {
        return Ok(CheckResult::Skipped(format!(
            "too few steps to learn anything by heart: {measured}"
        )));
    }
    Ok(CheckResult::passes_if(
        last(&learned) < 0.5 && last(&val) > least + 0.5,
        measured,
    ))
}

/// Steps before the stop, and after it.
const HALF: u64 = 10;

/// Runs a training once uninterrupted and once stopped and resumed; returns the files of the last checkpoints that differ, and
/// both final losses.
fn stopped_and_resumed(workspace: &Workspace) -> Result<(Vec<&'static str>, [f32; 2])> {
    say(format_args!(
        "day 8: a run of {} steps, and the same run stopped after {HALF} and resumed",
        2 * HALF
    ));
    let _made = durable::make_folder(workspace.root())?;
    let folder = Unfinished::folder(&workspace.root().join("resume"))?; // removed when dropped
    compare_runs(workspace, folder.path())
}

fn compare_runs(workspace: &Workspace, folder: &Path) -> Result<(Vec<&'static str>, [f32; 2])> {
    let config = TrainConfig {
        layers: 2,
        heads: 2,
        embd: 32,
        context: 16,
        dropout: 0.1, // so that masks are tested, too
        steps: 2 * HALF,
        warmup: HALF,
        save_every: HALF,
        eval_every: 2 * HALF,
        eval_batches: 2,
        ..workspace.config(&NANO)?
    };
    // ANCHOR: resume
    let run = || Run::open(folder);
    train(
        &mut Session::start(config.clone(), workspace.dataset(), folder)?,
        &mut Unattended,
    )?;
    let whole = End::read(&run()?)?;
    fs::remove_dir_all(run()?.step_folder(2 * HALF))?; // as if it had been stopped halfway
    train(
        &mut Session::resume(run()?, config, workspace.dataset())?,
        &mut Unattended,
    )?;
    let resumed = End::read(&run()?)?;
    // ANCHOR_END: resume
    let files = End::FILES.into_iter().zip(whole.files.iter().zip(&resumed.files));
    let differing = files.filter(|(_, (a, b))| a != b).map(|(name, _)| name);
    Ok((differing.collect(), [whole.loss, resumed.loss]))
}

/// A run's last checkpoint and last loss.
struct End {
    files: [Vec<u8>; 2],
    loss: f32,
}

impl End {
    const FILES: [&'static str; 2] = ["model.safetensors", "optimizer.safetensors"];

    fn read(run: &Run) -> Result<Self> {
        let folder = run.newest_checkpoint()?;
        let [model, optimizer] = Self::FILES.map(|name| fs::read(folder.join(name)));
        let mut losses = metrics::read(run)?.into_iter().filter_map(|line| match line {
            Record::Step(line) => Some(line.loss),
            _ => None,
        });
        Ok(Self {
            files: [model?, optimizer?],
            loss: losses.next_back().context("the run has no steps")?,
        })
    }
}

/// Figure: an uninterrupted run and a resumed one.
pub fn resume(workspace: &Workspace) -> Result<String> {
    let (differing, [whole, resumed]) = stopped_and_resumed(workspace)?;
    let mut text = format!(
        "loss of step {}: {whole:.6} never stopped, {resumed:.6} stopped after step {HALF} and resumed\n",
        2 * HALF
    );
    for name in End::FILES {
        let word = if differing.contains(&name) {
            "differs"
        } else {
            "is the same, byte for byte"
        };
        writeln!(text, "{name} {word}")?;
    }
    Ok(text)
}

/// Claim: a resumed run equals an uninterrupted one.
pub fn resumed_is_never_stopped(workspace: &Workspace) -> Result<CheckResult> {
    let (differing, [whole, resumed]) = stopped_and_resumed(workspace)?;
    if Device::current()? == Device::Gpu {
        // GPUs may sum in no fixed order.
        return Ok(CheckResult::within_tolerance((whole - resumed).abs(), 1e-3));
    }
    Ok(CheckResult::passes_if(
        differing.is_empty(),
        match differing[..] {
            [] => "weights and moments are the same to the bit".into(),
            _ => format!("{} differ", differing.join(" and ")),
        },
    ))
}

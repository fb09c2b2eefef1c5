//! The library's training in parts, for days that compare their own with it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::error::Result as MlxResult;
use mlx_rs::transforms::eval;

use super::gradients::in_parts;
use super::pictures::Series;
use super::workspace::Workspace;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::run::Run;
use crate::config::{ModelConfig, Optimizer, TrainConfig};
use crate::data::batches::Batch;
use crate::disk::durable;
use crate::disk::unfinished::Unfinished;
use crate::model::Parameters;
use crate::terminal::console::say;
use crate::train::metrics::{self, Record};
use crate::train::optimizers::adamw::{AdamW, BETA1, Scalars};
use crate::train::step::{Stepper, TrainState};
use crate::train::{NoopObserver, Session, train};

/// The library's AdamW: a parameter, m and v, of one shape, after step `t`, counted from 1, at the run's highest rate.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn library_adamw(
    config: &TrainConfig,
    [parameter, m, v]: &[Array; 3],
    gradient: &Array,
    t: i32,
) -> MlxResult<[Array; 3]> {
    let adamw = AdamW {
        beta2: config.beta2,
        weight_decay: config.weight_decay,
        lr_factor: 1.0,
    };
    let correction = |beta: f32| Array::from_f32((1.0 / (1.0 - f64::from(beta).powi(t))) as f32);
    let scalars = Scalars {
        lr: Array::from_f32(config.lr),
        clip_coefficient: Array::from_f32(1.0),
        m_correction: correction(BETA1),
        v_correction: correction(config.beta2),
    };
    let [m, v] = adamw.moments([m, v], gradient, &scalars)?;
    Ok([adamw.parameter(parameter, [&m, &v], &scalars)?, m, v])
}

/// The library's step, repeated on one batch, from those parameters on: each call gives its loss.
///
/// # Errors
/// A thread cannot be started.
pub fn library_step<'a>(
    config: &TrainConfig,
    model: &'a ModelConfig,
    parameters: &Parameters,
    batch: &'a Batch,
) -> Result<impl FnMut() -> Result<f32> + 'a> {
    let none = Parameters::default();
    let mut stepper = Stepper::new(config, model, parameters, &none)?;
    let mut state = TrainState::new(parameters.clone(), none, Optimizer::Adamw)?;
    Ok(move || Ok(stepper.step(&mut state, in_parts(model, batch, 1))?.loss))
}

/// The times of several ways of doing something, `rounds` of each, in turns: other work on the machine affects all equally.
///
/// # Errors
/// The first error of a way.
pub fn interleaved<T>(rounds: usize, ways: &mut [&mut dyn FnMut() -> Result<T>]) -> Result<Vec<Vec<Duration>>> {
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for (way, times) in ways.iter_mut().zip(&mut times) {
            let started = Instant::now();
            way()?;
            times.push(started.elapsed());
        }
    }
    Ok(times)
}

/// Training and validation losses during the trainings in those folders, one after the other.
///
/// # Errors
/// A run that is missing or whose metrics cannot be read.
pub fn losses_during(workspace: &Workspace, folders: &[&str]) -> Result<[Series; 2]> {
    let (mut train, mut val) = (Vec::new(), Vec::new());
    let mut before = 0;
    for folder in folders {
        let mut last = before;
        for line in metrics::read(&Run::open(&workspace.folder(folder))?)? {
            if let Record::Evaluation(line) = line {
                last = before + line.step;
                train.push((last as f64, line.train_loss));
                val.push((last as f64, line.val_loss));
            }
        }
        before = last;
    }
    Ok([Series::new("train", train), Series::new("validation", val)])
}

/// The last checkpoints of a run of 20 steps, and of the same run, stopped after ten and resumed. The runs are like one of
/// `config`, but small.
///
/// # Errors
/// Those of training.
pub fn stop_and_resume(workspace: &Workspace, config: &TrainConfig) -> Result<[Checkpoint; 2]> {
    say("a run of 20 steps, and the same run stopped after 10 and resumed");
    let _made = durable::make_folder(workspace.root())?;
    let unfinished = Unfinished::folder(&workspace.root().join("resume"))?; // removed when dropped
    let folder = unfinished.path();
    let config = TrainConfig {
        layers: 2,
        embd: 32,
        dropout: 0.1, // so that masks are tested, too
        steps: 20,
        warmup: 10,
        save_every: 10,
        ..config.clone()
    };
    let last = folder.join("step-000020");
    // ANCHOR: resume
    let mut session = Session::start(config.clone(), workspace.dataset(), folder)?;
    train(&mut session, &mut NoopObserver)?;
    drop(session);
    let whole = Checkpoint::load(&last)?;
    fs::remove_dir_all(&last)?; // as if it had been stopped halfway
    let mut session = Session::resume(Run::open(folder)?, config, workspace.dataset())?;
    train(&mut session, &mut NoopObserver)?;
    let resumed = Checkpoint::load(&last)?;
    // ANCHOR_END: resume
    eval(whole.parameters.arrays().iter().chain(resumed.parameters.arrays()))?; // while their files are there
    Ok([whole, resumed])
}

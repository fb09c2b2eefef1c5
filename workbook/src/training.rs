//! Training of the learner's model by the learner's functions, in the library's loop.

use std::collections::BTreeMap;
use std::panic;

use anyhow::{Context, Result, ensure};
use mlx_gpt::config::{ModelConfig, TrainConfig};
use mlx_gpt::course::day07::Shape;
use mlx_gpt::course::day08::{Hyperparameters, Step};
use mlx_gpt::data::batches::Batch;
use mlx_gpt::model::Parameters;
use mlx_gpt::train::{OwnStep, OwnTraining};
use mlx_rs::{Array, random};

use super::Answers;
use super::batch::{Batch as Drawn, HYPERPARAMETERS};
use super::exercise::{self, Draw, Unwritten};

/// The first function that a training comes to and that is not written yet: all that it calls is called once, on a small model.
pub fn unwritten(answers: &Answers) -> Option<Unwritten> {
    let panics = panic::take_hook();
    exercise::silence_panics();
    let missing = exercise::unwritten(|| train_once(answers, &mut Draw::anew()));
    panic::set_hook(panics);
    missing
}

/// Calls each function that a training calls.
fn train_once(answers: &Answers, draw: &mut Draw) -> Result<()> {
    let Drawn {
        shape,
        weights,
        moments,
        ..
    } = Drawn::draw(draw)?;
    (answers.day07.initialize)(&shape, &draw.key()?)?;
    let (ids, targets) = (answers.day02.get_batch)(&[0; 8], &[0, 1], 6);
    let lr = (answers.day08.learning_rate)(1, 10, 100, 1e-3, 1e-4);
    let numbers = [1.0, lr].map(Array::from_f32);
    let names = weights.keys().cloned().collect();
    let [m, v] = moments;
    let state = [weights, m, v];
    (answers.day08.train_step)(
        &state,
        [&ids, &targets],
        [&numbers[0], &numbers[1]],
        &shape,
        &HYPERPARAMETERS,
    )?;
    drop((answers.day08.compiled_step)(names, shape, HYPERPARAMETERS));
    Ok(())
}

/// A learner's functions, for a run.
pub struct Mine {
    answers: Answers,
    run: Option<Run>,
}

/// What depends on the run's configuration.
struct Run {
    config: TrainConfig,
    shape: Shape,
    step: Step,
}

impl Mine {
    /// For those functions.
    pub fn new(answers: Answers) -> Self {
        Self { answers, run: None }
    }

    fn run(&self) -> Result<&Run> {
        self.run.as_ref().context("the run was not prepared")
    }
}

impl OwnTraining for Mine {
    fn prepare(&mut self, config: &TrainConfig, model: &ModelConfig) -> Result<()> {
        let shape = Shape::from(model);
        let with = Hyperparameters::from(config);
        let names = mlx_gpt::course::day07::array_shapes(&shape);
        let mut names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
        names.sort();
        self.run = Some(Run {
            config: config.clone(),
            shape,
            step: (self.answers.day08.compiled_step)(names, shape, with),
        });
        Ok(())
    }

    fn initialize(&self) -> Result<Parameters> {
        let Run { config, shape, .. } = self.run()?;
        let weights = (self.answers.day07.initialize)(shape, &random::key(config.seed)?)?;
        Ok(Parameters::from_entries(weights.into_iter().collect()))
    }

    fn step(&mut self, state: [&Parameters; 3], batch: &Batch, step: u64) -> Result<OwnStep> {
        let answers = self.answers;
        let Run {
            config, step: compiled, ..
        } = self.run.as_mut().context("the run was not prepared")?;
        let (ids, targets) = batch_of(&answers, batch);
        let lr = (answers.day08.learning_rate)(
            step - 1,
            config.warmup,
            config.schedule_steps(),
            config.lr,
            config.min_lr,
        );
        let (loss, grad_norm, next) = compiled(state.map(BTreeMap::from), [&ids, &targets], step, lr)?;
        ensure!(
            next[0].len() == state[0].names().len(),
            "the step gave {} weights, not {}",
            next[0].len(),
            state[0].names().len()
        );
        Ok(OwnStep {
            loss,
            grad_norm,
            state: next.map(|weights| Parameters::from_entries(weights.into_iter().collect())),
        })
    }
}

/// The learner's batch of the rows that the loop chose: their tokens, one row after the other, are the text.
fn batch_of(answers: &Answers, batch: &Batch) -> (Array, Array) {
    let context = batch.context();
    let rows = batch.inputs.chunks(context).zip(batch.targets.chunks(context));
    let tokens: Vec<u32> = rows
        .flat_map(|(inputs, targets)| inputs.iter().chain(targets.last()).copied())
        .collect();
    let starts: Vec<usize> = (0..batch.rows).map(|row| row * (context + 1)).collect();
    (answers.day02.get_batch)(&tokens, &starts, context)
}

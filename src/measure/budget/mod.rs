//! The best training for a text in a given time: [`survey`] measures this machine with the text for some seconds, and
//! [`choice`] chooses the size by the losses that [`law`] expects.
//!
//! ```
//! use mlx_gpt::measure::budget::law::Training;
//!
//! // A model of 4 layers of 128 after 250 and after 2000 steps of 768 tokens of tiny Shakespeare.
//! let loss = |steps: f64| {
//!     Training { shape: [4, 128], seen: 768.0 * steps, distinct: 1e6, context: 64 }.loss()
//! };
//! assert!(loss(2000.0) < loss(250.0));
//! ```

pub mod choice;
pub mod law;
mod quality;

pub use quality::quality;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::config::{ConfigOverrides, Device, TrainConfig};
use crate::data::dataset::Dataset;
use crate::train::Pilot;
use choice::{Candidate, Given, Measured, Size, sizes};
use law::{PILOT_STEPS, Training};

/// The fraction of the time that measuring may take, and the most of it.
const SURVEY: f64 = 0.08;
const MOST: Duration = Duration::from_secs(30);
/// Seconds from the choice to the first step: the text is read and the step compiled once more.
const START: f64 = 1.0;
/// Checkpoints that are kept beside the best one.
const KEEP_LAST: usize = 2;
/// Width up to which the rates of preset nano are right; beyond they fall with the width.
const RATES_WIDTH: usize = 192;

/// What can be trained in a time, and what of it is best.
pub struct Survey {
    /// What was measured.
    pub measured: Measured,
    /// What each size comes to.
    pub candidates: Vec<Candidate>,
    /// The best of them.
    pub best: Option<usize>,
}

/// Options that decide what minutes decide.
const REFUSED: [&str; 7] = [
    "steps",
    "schedule_steps",
    "init_from",
    "task",
    "lora_rank",
    "freeze",
    "sync_every",
];

/// Checks that `options` and those of a `file` leave minutes something to decide.
///
/// # Errors
/// An option that cannot be combined with minutes.
pub fn ensure_open(options: &ConfigOverrides, file: &ConfigOverrides) -> Result<()> {
    for key in REFUSED {
        let option = key.replace('_', "-");
        ensure!(
            !options.has(key) && !file.has(key),
            "--{option} does not go with --minutes, which choose what is trained; leave one of them out"
        );
    }
    Ok(())
}

/// Which of the sizes the user has decided: those of options, of a file, or all of a preset.
pub fn given(options: &ConfigOverrides, file: &ConfigOverrides, preset: bool, config: &TrainConfig) -> Given {
    let has = |key: &str| preset || options.has(key) || file.has(key);
    Given {
        shape: (has("layers") || has("heads") || has("embd")).then_some([config.layers, config.heads, config.embd]),
        context: has("context").then_some(config.context),
        batch_size: has("batch_size").then_some(config.batch_size),
        dropout: has("dropout").then_some(config.dropout),
    }
}

/// Measures this machine with a text, and chooses what to train in the `minutes` since `started`. `config` has everything but what
/// is chosen.
///
/// # Errors
/// A configuration or a corpus that cannot be trained with; MLX's.
pub fn survey(
    config: &TrainConfig,
    given: Given,
    dataset: &Dataset,
    minutes: f64,
    elapsed: impl Fn() -> Duration,
) -> Result<Survey> {
    let limit = Duration::from_secs_f64(60.0 * minutes);
    let (begun, most) = (Instant::now(), limit.mul_f64(SURVEY).min(MOST));
    let small = sizes(Given::default())[0];
    // The text is read before it is known how long a context it has room for.
    let pilot = Pilot::new(&with_size(config, &Size { context: 1, ..small }), dataset)?;
    let shortest = pilot.training_tokens().min(pilot.validation_tokens());
    let context = small.context.min(shortest - 1);
    let steps = ((minutes * PILOT_STEPS as f64 / 2.0) as u64).clamp(20, PILOT_STEPS);
    let small = Size { context, ..small };
    let pilot_config = TrainConfig {
        steps,
        warmup: config.warmup.min(steps / 5),
        dropout: 0.0,
        ..with_size(config, &small)
    };
    let (pilot_loss, step) = pilot.train(&pilot_config)?;
    let mut measured = Measured {
        tokens: pilot.training_tokens(),
        shortest,
        vocabulary: pilot.vocabulary(),
        pilot_loss,
        pilot: Training {
            shape: [small.layers, small.embd],
            seen: steps as f64 * small.tokens() as f64,
            distinct: pilot.training_tokens() as f64,
            context,
        },
        steps: vec![(small, step.as_secs_f64())],
        is_fitted_device: config.device == Device::Cpu,
    };
    let left = || (limit.saturating_sub(elapsed())).as_secs_f64() - START;
    // What is best by what is known so far is measured, until the best one has been.
    let (mut candidates, mut best) = measured.choose(left(), given);
    while let Some(chosen) = best.map(|best| candidates[best]) {
        if chosen.measured || begun.elapsed() > most {
            break;
        }
        let seconds = pilot.time_step(&with_size(config, &chosen.size))?.as_secs_f64();
        measured.steps.push((chosen.size, seconds));
        (candidates, best) = measured.choose(left(), given);
    }
    Ok(Survey {
        measured,
        candidates,
        best,
    })
}

/// The configuration with a size, and rates for its width.
fn with_size(config: &TrainConfig, size: &Size) -> TrainConfig {
    TrainConfig {
        layers: size.layers,
        heads: size.heads,
        embd: size.embd,
        context: size.context,
        batch_size: size.batch_size,
        kv_heads: config.kv_heads.filter(|_| size.heads == config.heads),
        ..config.clone()
    }
}

/// The configuration that trains a candidate, with what the user has set by `options` and a `file`.
pub fn configured(
    config: &TrainConfig,
    candidate: &Candidate,
    options: &ConfigOverrides,
    file: &ConfigOverrides,
) -> TrainConfig {
    let free = |key: &str| !options.has(key) && !file.has(key);
    let mut chosen = TrainConfig {
        steps: candidate.steps,
        dropout: candidate.dropout,
        ..with_size(config, &candidate.size)
    };
    let width = (RATES_WIDTH as f32 / chosen.embd as f32).min(1.0);
    let every = candidate.steps.div_ceil(candidate.evaluations);
    if free("lr") && free("min_lr") {
        (chosen.lr, chosen.min_lr) = (config.lr * width, config.min_lr * width);
    }
    if free("warmup") {
        chosen.warmup = config.warmup.min(candidate.steps / 10);
    }
    if free("eval_every") {
        chosen.eval_every = every;
    }
    if free("save_every") {
        chosen.save_every = chosen.eval_every;
    }
    if free("keep_last") {
        chosen.keep_last = KEEP_LAST;
    }
    chosen
}

//! Comparison of training recipes, in memory: [`sweep`] selects learning rates and schedules on a part of the training text,
//! [`speedrun`] measures the time to a validation loss.

mod journal;
pub mod plan;
pub mod plot;
pub mod ranking;
pub mod speedrun;
pub mod standings;
pub mod sweep;
mod training;

pub use journal::Journal;

use crate::config::{Device, TrainConfig};

/// Whether two configurations are the same recipe: equal but for the machine, evaluation, logging and saving.
pub fn is_same_recipe(a: &TrainConfig, b: &TrainConfig) -> bool {
    let recipe = |config: &TrainConfig| TrainConfig {
        corpus: String::new(), // its text is compared
        device: Device::Cpu,
        threads: 1,
        eval_every: 1,
        eval_batches: 1,
        save_every: 1,
        keep_last: 0,
        keep_every: 0,
        ..config.clone()
    };
    recipe(a) == recipe(b)
}

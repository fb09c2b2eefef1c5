//! Recipes against each other, trained in memory alone: [`sweep`] chooses rates and schedules by a part of the training
//! text, [`speedrun`] measures how soon a recipe reaches a validation loss.

mod journal;
pub mod plan;
pub mod plot;
pub mod ranking;
pub mod speedrun;
pub mod standings;
pub mod sweep;

pub use journal::Journal;

use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::Device;
use crate::config::TrainConfig;

/// Whether two configurations are one recipe: all the same but for the machine, and what is watched and saved.
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

/// A bar of a training's steps, on a terminal.
fn steps_bar(steps: u64, what: String) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left")?;
    let bar = ProgressBar::new(steps).with_style(style).with_message(what);
    bar.enable_steady_tick(Duration::from_millis(500));
    Ok(bar)
}

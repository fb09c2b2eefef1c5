//! A sweep: every recipe of a grid with every seed, scored on a part of the training text.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::training::{outcome, train};
use super::{Journal, is_same_recipe};
use crate::config::{TrainConfig, display_value};
use crate::data::dataset::{CorpusRecord, Dataset};
use crate::terminal::console::say;
use crate::train::{InMemoryRun, Interrupt, Outcome};

/// A training of a sweep.
#[derive(Clone, Debug)]
pub struct SweepRun {
    /// What the grid varies.
    pub settings: Table,
    /// All of it, with its seed.
    pub config: TrainConfig,
}

/// The result of a training.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finished {
    /// What the grid varies.
    pub settings: Table,
    /// The seed.
    pub seed: u64,
    /// Exact, after the last step, over the last tenth of the training text, in nats per token; none where the training
    /// diverged.
    pub loss: Option<f64>,
    /// Steps done.
    pub steps: u64,
    /// Time of the steps, without compiling.
    pub seconds: f64,
    /// The text.
    pub corpus: CorpusRecord,
    /// The whole configuration, with the seed.
    pub config: TrainConfig,
}

impl Finished {
    /// Whether it is that training on that text.
    pub fn is_of(&self, candidate: &SweepRun, corpus: &CorpusRecord) -> bool {
        self.corpus == *corpus && is_same_recipe(&self.config, &candidate.config)
    }
}

/// Runs and records every training that is missing from the journal. `interrupt` ends it after a step: the current training
/// starts again next time, finished ones are kept.
///
/// # Errors
/// A configuration or a corpus that cannot be trained with, or a journal that cannot be written.
pub fn sweep(
    candidates: &[SweepRun],
    dataset: &Dataset,
    journal: &mut Journal<Finished>,
    interrupt: &dyn Interrupt,
) -> Result<Outcome> {
    let corpus = dataset.record()?;
    for (number, candidate) in candidates.iter().enumerate() {
        if journal.lines().iter().any(|line| line.is_of(candidate, &corpus)) {
            continue;
        }
        let what = format!("{}/{} {}", number + 1, candidates.len(), describe(candidate));
        let Some(finished) = run(candidate, dataset, &corpus, interrupt, &what)? else {
            break;
        };
        let result = finished
            .loss
            .map_or("diverged".into(), |loss| format!("loss {loss:.4}"));
        say(format_args!("{what}: {result} in {:.1} s", finished.seconds));
        journal.append(finished)?;
    }
    Ok(outcome(interrupt))
}

/// One training; `None` if `interrupt` ended it.
fn run(
    candidate: &SweepRun,
    dataset: &Dataset,
    corpus: &CorpusRecord,
    interrupt: &dyn Interrupt,
    what: &str,
) -> Result<Option<Finished>> {
    let config = &candidate.config;
    let mut run = InMemoryRun::within_training_text(config, dataset).with_context(|| describe(candidate))?;
    let curve = train(&mut run, what, config.steps, interrupt)?;
    Ok(curve.and_then(|curve| curve.last().copied()).map(|end| Finished {
        settings: candidate.settings.clone(),
        seed: config.seed,
        loss: end.val_loss,
        steps: end.step,
        seconds: end.seconds,
        corpus: corpus.clone(),
        config: config.clone(),
    }))
}

/// Short description of a training, such as `lr 0.001, warmup 20, seed 1`.
fn describe(candidate: &SweepRun) -> String {
    let settings = candidate
        .settings
        .iter()
        .map(|(key, value)| format!("{key} {}, ", display_value(value)));
    format!("{}seed {}", settings.collect::<String>(), candidate.config.seed)
}

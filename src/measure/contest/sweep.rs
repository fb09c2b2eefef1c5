//! A sweep: every recipe of a grid with every seed, scored on a part of the training text.

use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::{Journal, is_same_recipe};
use crate::config::{TrainConfig, shown};
use crate::data::dataset::{CorpusRecord, Dataset};
use crate::terminal::console::say;
use crate::terminal::progress::{Progress, Unit};
use crate::train::{Outcome, Stop, UnsavedRun};

/// A training to do.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What the grid varies.
    pub settings: Table,
    /// All of it, with its seed.
    pub config: TrainConfig,
}

/// A training that was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finished {
    pub settings: Table,
    pub seed: u64,
    /// Exact, after the last step, over the last tenth of the training text, in nats per token; none where the training
    /// diverged.
    pub loss: Option<f64>,
    /// Steps done.
    pub steps: u64,
    /// Time of the steps, without compiling.
    pub seconds: f64,
    pub corpus: CorpusRecord,
    pub config: TrainConfig,
}

impl Finished {
    /// Whether it is that training on that text.
    pub fn is_of(&self, candidate: &Candidate, corpus: &CorpusRecord) -> bool {
        self.corpus == *corpus && is_same_recipe(&self.config, &candidate.config)
    }
}

/// Does what the journal does not have yet, and adds it there. `stop` ends it after a step: the training that it is in
/// will begin again, those before are kept.
///
/// # Errors
/// A configuration or a corpus that cannot be trained with, or a journal that cannot be written.
pub fn sweep(
    candidates: &[Candidate],
    dataset: &Dataset,
    journal: &mut Journal<Finished>,
    stop: &dyn Stop,
) -> Result<Outcome> {
    let corpus = dataset.record()?;
    for (number, candidate) in candidates.iter().enumerate() {
        if journal.lines().iter().any(|line| line.is_of(candidate, &corpus)) {
            continue;
        }
        let what = format!("{}/{} {}", number + 1, candidates.len(), describe(candidate));
        let Some(finished) = train(candidate, dataset, &corpus, stop, &what)? else {
            break;
        };
        let result = finished
            .loss
            .map_or("diverged".into(), |loss| format!("loss {loss:.4}"));
        say(format_args!("{what}: {result} in {:.1} s", finished.seconds));
        journal.append(finished)?;
    }
    stop.at_stake(None);
    Ok(if stop.requested() {
        Outcome::Stopped
    } else {
        Outcome::Finished
    })
}

/// One training; nothing if `stop` ended it.
fn train(
    candidate: &Candidate,
    dataset: &Dataset,
    corpus: &CorpusRecord,
    stop: &dyn Stop,
    what: &str,
) -> Result<Option<Finished>> {
    let config = &candidate.config;
    let mut run = UnsavedRun::within_training_text(config, dataset).with_context(|| describe(candidate))?;
    let bar = Progress::new(what, config.steps, Unit::Of("steps"));
    stop.at_stake(Some("nothing".into()));
    run.warm_up()?;
    let started = Instant::now();
    let mut diverged = false;
    while !run.is_finished() && !diverged {
        if stop.requested() {
            return Ok(None);
        }
        let step = run.step()?;
        diverged = run.ends_at(&step);
        stop.at_stake(Some(format!("{} step(s) of this training", run.steps())));
        bar.set_position(run.steps());
    }
    let seconds = started.elapsed().as_secs_f64();
    let loss = if diverged { f64::NAN } else { run.loss()? };
    drop(bar);
    Ok(Some(Finished {
        settings: candidate.settings.clone(),
        seed: config.seed,
        loss: loss.is_finite().then_some(loss),
        steps: run.steps(),
        seconds,
        corpus: corpus.clone(),
        config: config.clone(),
    }))
}

/// A training in a few words, such as `lr 0.001, warmup 20, seed 1`.
fn describe(candidate: &Candidate) -> String {
    let settings = candidate
        .settings
        .iter()
        .map(|(key, value)| format!("{key} {}, ", shown(value)));
    format!("{}seed {}", settings.collect::<String>(), candidate.config.seed)
}

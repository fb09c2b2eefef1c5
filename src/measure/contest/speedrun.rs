//! A speedrun: the validation loss of recipes against the seconds that they trained for.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use super::training::LossPoint;
use super::training::{outcome, train};
use super::{Journal, is_same_recipe};
use crate::config::TrainConfig;
use crate::data::dataset::{CorpusRecord, Dataset};
use crate::terminal::console::say;
use crate::train::{InMemoryRun, Interrupt, Outcome};

/// This program's name beside those of other frameworks.
pub const ENGINE: &str = "mlx-gpt";

/// A recipe to train and time.
#[derive(Clone, Debug)]
pub struct Runner {
    /// The recipe's name.
    pub name: String,
    /// Its configuration, with the seed.
    pub config: TrainConfig,
}

/// A timed training, of this program or another framework.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Race {
    /// The framework.
    pub engine: String,
    /// The recipe's name.
    pub recipe: String,
    /// The seed.
    pub seed: u64,
    /// Training speed.
    pub tokens_per_second: f64,
    /// The text.
    pub corpus: CorpusRecord,
    /// Losses during training and after the last step.
    pub curve: Vec<LossPoint>,
    /// The configuration, if this program trained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<TrainConfig>,
}

impl Race {
    /// The first measured point at a loss of `target` or less.
    pub fn reaches(&self, target: f64) -> Option<&LossPoint> {
        self.curve
            .iter()
            .find(|point| point.val_loss.is_some_and(|loss| loss <= target))
    }

    /// After the last step.
    pub fn end(&self) -> Option<&LossPoint> {
        self.curve.last()
    }

    /// Whether times and losses are plausible; another program may have written them.
    pub fn is_plausible(&self) -> bool {
        let possible = |point: &LossPoint| {
            (0.0..1e9).contains(&point.seconds) && point.val_loss.is_none_or(|loss| (0.0..1e6).contains(&loss))
        };
        !self.curve.is_empty() && self.curve.iter().all(possible) && self.tokens_per_second.is_finite()
    }

    fn is_of(&self, runner: &Runner, corpus: &CorpusRecord) -> bool {
        let Some(config) = &self.config else { return false };
        let same_machine = |a: &TrainConfig, b: &TrainConfig| (a.device, a.threads) == (b.device, b.threads);
        self.recipe == runner.name
            && self.corpus == *corpus
            && is_same_recipe(config, &runner.config)
            && same_machine(config, &runner.config) // seconds are the machine's
    }
}

/// Runs and records every training that is missing from the journal, evaluating the loss `evaluations` times in each.
/// `interrupt` ends it after a step.
///
/// # Errors
/// A configuration or a corpus that cannot be trained with, or a journal that cannot be written.
pub fn speedrun(
    runners: &[Runner],
    dataset: &Dataset,
    evaluations: u64,
    journal: &mut Journal<Race>,
    interrupt: &dyn Interrupt,
) -> Result<Outcome> {
    let corpus = dataset.record()?;
    for runner in runners {
        if journal.lines().iter().any(|race| race.is_of(runner, &corpus)) {
            continue;
        }
        let Some(race) = run(runner, dataset, &corpus, evaluations, interrupt)? else {
            break;
        };
        if let Some(end) = race.end() {
            let loss = end.val_loss.map_or("diverged".into(), |loss| format!("loss {loss:.4}"));
            say(format_args!(
                "{} seed {}: {loss} after {} steps in {:.1} s",
                race.recipe, race.seed, end.step, end.seconds
            ));
        }
        journal.append(race)?;
    }
    Ok(outcome(interrupt))
}

/// Of all `races` on that text those of other programs with the seeds of the `runners`, and those of the `runners` as they are
/// now, in their order.
pub fn relevant_races(runners: &[Runner], corpus: &CorpusRecord, races: &[Race]) -> Vec<Race> {
    let own = runners
        .iter()
        .filter_map(|runner| races.iter().find(|race| race.is_of(runner, corpus)));
    let others = races.iter().filter(|race| {
        race.engine != ENGINE && race.corpus == *corpus && runners.iter().any(|runner| runner.config.seed == race.seed)
    });
    others.chain(own).cloned().collect()
}

/// One training; `None` if `interrupt` ended it.
fn run(
    runner: &Runner,
    dataset: &Dataset,
    corpus: &CorpusRecord,
    evaluations: u64,
    interrupt: &dyn Interrupt,
) -> Result<Option<Race>> {
    let config = &runner.config;
    let mut run = InMemoryRun::new(config, dataset).with_context(|| format!("recipe {}", runner.name))?;
    let what = format!("{} seed {}", runner.name, config.seed);
    let curve = train(&mut run, &what, config.steps.div_ceil(evaluations), interrupt)?;
    Ok(curve.map(|curve| Race {
        engine: ENGINE.into(),
        recipe: runner.name.clone(),
        seed: config.seed,
        tokens_per_second: curve.last().map_or(f64::NAN, |end| {
            (end.step as usize * config.tokens_per_step()) as f64 / end.seconds
        }),
        corpus: corpus.clone(),
        curve,
        config: Some(config.clone()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Device;
    use crate::config::Preset;

    #[test]
    fn races_count_that_were_run_alike_and_recipes_keep_their_order() {
        let corpus = CorpusRecord {
            sha256: "x".into(),
            split_offset: 9,
        };
        let runner = |name: &str, lr: f32| Runner {
            name: name.into(),
            config: TrainConfig {
                lr,
                threads: 2,
                ..Preset::Nano.train_config(Device::Cpu)
            },
        };
        let race = |engine: &str, runner: &Runner, threads: usize| Race {
            engine: engine.into(),
            recipe: runner.name.clone(),
            seed: runner.config.seed,
            tokens_per_second: threads as f64,
            corpus: corpus.clone(),
            curve: Vec::new(),
            config: (engine == ENGINE).then(|| TrainConfig {
                threads,
                ..runner.config.clone()
            }),
        };
        let runners = [runner("first", 0.1), runner("second", 0.2)];
        let races = [
            race(ENGINE, &runners[1], 2),
            race(ENGINE, &runners[0], 1), // seconds on one thread are no seconds on two
            race(ENGINE, &runners[0], 2),
            race("another", &runners[0], 9),
            Race {
                seed: 2,
                ..race("another", &runners[0], 8)
            },
            Race {
                corpus: CorpusRecord {
                    sha256: "y".into(),
                    split_offset: 9,
                },
                ..race("another", &runners[0], 7)
            },
        ];
        let counted = relevant_races(&runners, &corpus, &races);
        let counted: Vec<_> = counted
            .iter()
            .map(|race| (race.recipe.as_str(), race.tokens_per_second))
            .collect();
        assert_eq!(counted, [("first", 9.0), ("first", 2.0), ("second", 2.0)]);
    }
}

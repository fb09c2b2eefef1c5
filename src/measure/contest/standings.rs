//! Results of a speedrun: recipes by framework, with the time to the target loss.

use anyhow::{Context, Result};
use serde::Serialize;

use super::speedrun::{ENGINE, Race};
use crate::measure::statistics::{mean, spread};
use crate::terminal::table::markdown;

/// A framework's recipe over its seeds. Means are over the seeds with a value.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// The framework.
    pub engine: String,
    /// The recipe's name.
    pub recipe: String,
    /// Number of seeds.
    pub seeds: usize,
    /// Seeds that reached the target.
    pub reached: usize,
    /// Mean number of steps to the target; `None` unless all seeds reached it.
    pub steps_to_target: Option<f64>,
    /// The same in seconds.
    pub seconds_to_target: Option<f64>,
    /// `seconds_to_target` over the reference's seconds of the whole training.
    pub ratio: Option<f64>,
    /// Mean number of steps of the whole training.
    pub steps: f64,
    /// The same in seconds.
    pub seconds: f64,
    /// Mean training speed.
    pub tokens_per_second: f64,
    /// Mean loss after the last step; none if a seed diverged.
    pub val_loss: Option<f64>,
    /// Highest of those losses minus the lowest.
    pub spread: Option<f64>,
}

/// All standings, against one target.
#[derive(Clone, Debug, Serialize)]
pub struct Standings {
    /// The target loss, in nats per token.
    pub target: f64,
    /// The engine and the recipe whose whole time the others' times to the target are compared with: another engine's, if
    /// there is one, or the first recipe.
    pub reference: [String; 2],
    /// One for each recipe.
    pub standings: Vec<Standing>,
}

impl Standings {
    /// The default `target` is the highest final loss over the seeds of this program's first recipe, which therefore all
    /// reach it.
    ///
    /// # Errors
    /// Nothing was trained here, or the first recipe diverged.
    pub fn new(races: &[Race], target: Option<f64>) -> Result<Self> {
        let mut groups: Vec<Vec<&Race>> = Vec::new();
        for race in races {
            let same = |group: &&mut Vec<&Race>| group[0].engine == race.engine && group[0].recipe == race.recipe;
            match groups.iter_mut().find(same) {
                Some(group) => group.push(race),
                None => groups.push(vec![race]),
            }
        }
        let first = groups
            .iter()
            .find(|group| group[0].engine == ENGINE)
            .context("nothing was trained yet")?;
        let target = match target {
            Some(target) => target,
            None => last_losses(first)
                .and_then(|losses| losses.into_iter().reduce(f64::max))
                .with_context(|| {
                    format!(
                        "recipe {} diverged, so it sets no target; give one with --target",
                        first[0].recipe
                    )
                })?,
        };
        let reference = groups.iter().find(|group| group[0].engine != ENGINE).unwrap_or(first);
        let whole = mean(reference.iter().filter_map(|race| Some(race.end()?.seconds)));
        Ok(Self {
            target,
            reference: [reference[0].engine.clone(), reference[0].recipe.clone()],
            standings: groups.iter().map(|group| standing(group, target, whole)).collect(),
        })
    }

    /// As a Markdown table.
    pub fn table(&self) -> String {
        let head = [
            "engine",
            "recipe",
            "reached",
            "steps",
            "seconds",
            "ratio",
            "all steps",
            "all seconds",
            "tokens/s",
            "last loss",
            "spread",
        ];
        let rows = self.standings.iter().map(|standing| {
            let number = |number: Option<f64>, digits: usize| number.map_or("–".into(), |n| format!("{n:.digits$}"));
            vec![
                standing.engine.clone(),
                standing.recipe.clone(),
                format!("{}/{}", standing.reached, standing.seeds),
                number(standing.steps_to_target, 0),
                number(standing.seconds_to_target, 1),
                number(standing.ratio, 3),
                format!("{:.0}", standing.steps),
                format!("{:.1}", standing.seconds),
                format!("{:.0}", standing.tokens_per_second),
                number(standing.val_loss, 4),
                number(standing.spread, 4),
            ]
        });
        let [engine, recipe] = &self.reference;
        format!(
            "Steps and seconds to a validation loss of {:.4}; their ratio to all seconds of {engine}, {recipe}:\n\n{}",
            self.target,
            markdown(&head, rows)
        )
    }
}

fn standing(races: &[&Race], target: f64, whole: f64) -> Standing {
    let points: Vec<_> = races.iter().filter_map(|race| race.reaches(target)).collect();
    let all = points.len() == races.len();
    let ends: Vec<_> = races.iter().filter_map(|race| race.end()).collect();
    let losses = last_losses(races);
    let seconds_to_target = all.then(|| mean(points.iter().map(|point| point.seconds)));
    Standing {
        engine: races[0].engine.clone(),
        recipe: races[0].recipe.clone(),
        seeds: races.len(),
        reached: points.len(),
        steps_to_target: all.then(|| mean(points.iter().map(|point| point.step as f64))),
        seconds_to_target,
        ratio: seconds_to_target.map(|seconds| seconds / whole),
        steps: mean(ends.iter().map(|end| end.step as f64)),
        seconds: mean(ends.iter().map(|end| end.seconds)),
        tokens_per_second: mean(races.iter().map(|race| race.tokens_per_second)),
        val_loss: losses.as_ref().map(|losses| mean(losses.iter().copied())),
        spread: losses.map(spread),
    }
}

/// Of each race, unless one diverged.
fn last_losses(races: &[&Race]) -> Option<Vec<f64>> {
    races.iter().map(|race| race.end()?.val_loss).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::CorpusRecord;
    use crate::measure::contest::speedrun::LossPoint;

    fn race(engine: &str, recipe: &str, curve: [(f64, f64); 2]) -> Race {
        let point = |(index, (seconds, loss)): (usize, (f64, f64))| LossPoint {
            step: 10 * (index as u64 + 1),
            seconds,
            val_loss: Some(loss),
        };
        Race {
            engine: engine.into(),
            recipe: recipe.into(),
            seed: 1,
            tokens_per_second: 100.0,
            curve: curve.into_iter().enumerate().map(point).collect(),
            corpus: CorpusRecord {
                sha256: "x".into(),
                split_offset: 9,
            },
            config: None,
        }
    }

    #[test]
    fn means_and_ratios_are_against_the_others_whole_time() {
        let races = [
            race("torch", "plain", [(10.0, 3.0), (40.0, 2.0)]),
            race(ENGINE, "plain", [(10.0, 3.0), (30.0, 2.1)]),
            race(ENGINE, "plain", [(10.0, 3.0), (50.0, 1.9)]),
            race(ENGINE, "best", [(4.0, 2.05), (8.0, 1.5)]),
            race(ENGINE, "best", [(5.0, 2.2), (10.0, 1.7)]),
        ];
        let standings = Standings::new(&races, None).unwrap();
        assert_eq!(standings.target, 2.1, "the highest that the first recipe ends at");
        let [torch, plain, best] = &standings.standings[..] else {
            panic!()
        };
        assert_eq!((torch.reached, torch.ratio), (1, Some(1.0)));
        assert_eq!(
            (plain.reached, plain.seconds_to_target, plain.ratio),
            (2, Some(40.0), Some(1.0))
        );
        // At step 10 after 4 s and at step 20 after 10 s: 7 s of 40.
        assert_eq!((best.steps_to_target, best.seconds_to_target), (Some(15.0), Some(7.0)));
        assert_eq!((best.ratio, best.val_loss, best.seconds), (Some(0.175), Some(1.6), 9.0));

        // 1.9 is reached by one seed of the plain recipe: no mean of that.
        let standings = Standings::new(&races, Some(1.9)).unwrap();
        let plain = &standings.standings[1];
        assert_eq!((plain.reached, plain.seconds_to_target, plain.ratio), (1, None, None));
        assert!(Standings::new(&races[..1], None).is_err(), "nothing of this program");
    }
}

//! Results of a sweep: its recipes, sorted by their mean loss over the seeds.

use serde::Serialize;
use toml::Table;

use super::sweep::{Finished, SweepRun};
use crate::config::display_value;
use crate::data::dataset::CorpusRecord;
use crate::measure::statistics::{mean, spread};
use crate::terminal::table::markdown;

/// A recipe and its losses, one for each seed.
#[derive(Clone, Debug, Serialize)]
pub struct Ranked {
    /// The recipe's options.
    pub settings: Table,
    /// Mean loss in nats per token; none if a seed diverged.
    pub mean: Option<f64>,
    /// Highest loss minus lowest.
    pub spread: Option<f64>,
    /// The loss of each seed that is done.
    pub losses: Vec<SeedLoss>,
    /// Number of requested seeds.
    pub seeds: usize,
    /// Mean time of a training, in seconds.
    pub seconds: f64,
}

/// The loss of a seed.
#[derive(Clone, Debug, Serialize)]
pub struct SeedLoss {
    /// The seed.
    pub seed: u64,
    /// In nats per token; none if the training diverged.
    pub loss: Option<f64>,
}

/// The recipes with at least one training done, the best first, those that diverged last.
pub fn ranking(candidates: &[SweepRun], finished: &[Finished], corpus: &CorpusRecord) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = Vec::new();
    let mut points: Vec<&Table> = Vec::new();
    for candidate in candidates {
        if !points.contains(&&candidate.settings) {
            points.push(&candidate.settings);
        }
    }
    for settings in points {
        let of_point = || candidates.iter().filter(|candidate| candidate.settings == *settings);
        let done: Vec<&Finished> = of_point()
            .filter_map(|candidate| finished.iter().find(|line| line.is_of(candidate, corpus)))
            .collect();
        if done.is_empty() {
            continue;
        }
        let losses: Option<Vec<f64>> = done.iter().map(|line| line.loss).collect();
        ranked.push(Ranked {
            settings: settings.clone(),
            mean: losses.clone().map(mean),
            spread: losses.map(spread),
            losses: done
                .iter()
                .map(|line| SeedLoss {
                    seed: line.seed,
                    loss: line.loss,
                })
                .collect(),
            seeds: of_point().count(),
            seconds: mean(done.iter().map(|line| line.seconds)),
        });
    }
    let order = |ranked: &Ranked| ranked.mean.unwrap_or(f64::INFINITY);
    ranked.sort_by(|a, b| order(a).total_cmp(&order(b)));
    ranked
}

/// The ranking as a Markdown table, a column for each setting that varies.
pub fn table(ranking: &[Ranked]) -> String {
    let mut keys: Vec<&String> = ranking.iter().flat_map(|ranked| ranked.settings.keys()).collect();
    keys.sort();
    keys.dedup();
    let results = ["mean loss", "spread", "seeds", "seconds"];
    let head: Vec<&str> = keys.iter().map(|key| key.as_str()).chain(results).collect();
    let rows = ranking.iter().map(|ranked| {
        let number = |number: Option<f64>, otherwise: &str| number.map_or(otherwise.into(), |n| format!("{n:.4}"));
        let settings = keys
            .iter()
            .map(|key| ranked.settings.get(*key).map_or("–".into(), display_value));
        let results = [
            number(ranked.mean, "diverged"),
            number(ranked.spread, "–"),
            format!("{}/{}", ranked.losses.len(), ranked.seeds),
            format!("{:.1}", ranked.seconds),
        ];
        settings.chain(results).collect()
    });
    markdown(&head, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Device;
    use crate::config::{Preset, TrainConfig};

    #[test]
    fn the_lowest_mean_is_first_and_divergence_last() {
        let corpus = CorpusRecord {
            sha256: "x".into(),
            split_offset: 9,
        };
        let mut candidates = Vec::new();
        let mut finished = Vec::new();
        for (lr, losses) in [
            (0.1, [Some(3.0), None]),
            (0.2, [Some(2.0), Some(2.5)]),
            (0.3, [Some(1.5), Some(2.25)]),
        ] {
            for (seed, loss) in losses.into_iter().enumerate() {
                let settings: Table = toml::from_str(&format!("lr = {lr}")).unwrap();
                let config = TrainConfig {
                    lr: lr as f32,
                    seed: seed as u64,
                    ..Preset::Nano.train_config(Device::Cpu)
                };
                candidates.push(SweepRun {
                    settings: settings.clone(),
                    config: config.clone(),
                });
                finished.push(Finished {
                    settings,
                    seed: seed as u64,
                    loss,
                    steps: 10,
                    seconds: 1.0,
                    corpus: corpus.clone(),
                    // Other threads make no other recipe.
                    config: TrainConfig { threads: 7, ..config },
                });
            }
        }
        finished.pop(); // a training of lr 0.3 is still to do
        let ranking = ranking(&candidates, &finished, &corpus);
        let means: Vec<_> = ranking.iter().map(|ranked| (ranked.mean, ranked.spread)).collect();
        assert_eq!(means, [(Some(1.5), Some(0.0)), (Some(2.25), Some(0.5)), (None, None)]);
        assert_eq!(
            table(&ranking),
            "\
|  lr | mean loss | spread | seeds | seconds |
| --: | --------: | -----: | ----: | ------: |
| 0.3 |    1.5000 | 0.0000 |   1/2 |     1.0 |
| 0.2 |    2.2500 | 0.5000 |   2/2 |     1.0 |
| 0.1 |  diverged |      – |   2/2 |     1.0 |
"
        );
        let other = CorpusRecord {
            split_offset: 8,
            ..corpus
        };
        assert!(
            super::ranking(&candidates, &finished, &other).is_empty(),
            "of another text"
        );
    }
}

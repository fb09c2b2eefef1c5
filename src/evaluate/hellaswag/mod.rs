//! HellaSwag: which of several endings of a text is the likeliest by a model's loss.
//!
//! The rule is that of Karpathy's build-nanogpt (`hellaswag.py`) and llm.c, which publish 0.2859 for GPT-2 124M, and 0.2955
//! normalized: an ending's loss is the sum of its tokens' negative log-likelihoods after `ctx`, and the
//! smallest sum is chosen; normalized by length, the smallest mean, as a sum favours short endings.

mod examples;

pub use examples::{Example, parse, read};

use std::cmp::Reverse;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{Evaluation, Evaluator};
use crate::checkpoint::Checkpoint;
use crate::data::batches::Batch;

/// A model's scores on a file of examples.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The fraction of examples whose right ending has the smallest loss.
    pub accuracy: f64,
    /// The fraction of examples whose right ending has the smallest loss per token.
    pub accuracy_normalized: f64,
    pub examples: usize,
    /// Examples that lost tokens at their start because the context was too short.
    pub truncated: usize,
    /// One an example, in the file's order.
    pub scores: Vec<Score>,
}

/// A model's scores on one example.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// Of each ending, in nats: the sum over its tokens.
    pub losses: Vec<f64>,
    /// Of each ending.
    pub tokens: Vec<usize>,
    /// The ending of the smallest sum, the first of equals.
    pub chosen: usize,
    /// The ending of the smallest mean over its tokens, the first of equals.
    pub chosen_normalized: usize,
    /// The right ending.
    pub label: usize,
    /// Tokens at the start of `ctx` that were dropped.
    pub dropped: usize,
}

/// Scores `examples`, of which there must be one at least, with a checkpoint's model, whose context they were read for.
/// `progress` hears how many endings each batch scored.
///
/// # Errors
/// Losses that are not finite, or an error of MLX's.
pub fn score(checkpoint: &Checkpoint, examples: &[Example], mut progress: impl FnMut(usize)) -> Result<Report> {
    let mut evaluator = Evaluator::of_checkpoint(checkpoint)?;
    let mut endings: Vec<Vec<Evaluation>> = examples
        .iter()
        .map(|example| vec![Evaluation::default(); example.endings.len()])
        .collect();
    // Rows of similar lengths share a batch, so that little of it is padding. The longest come first: if memory is too
    // small for them, that shows at once.
    let mut rows: Vec<(usize, usize)> = examples
        .iter()
        .enumerate()
        .flat_map(|(example, endings)| (0..endings.endings.len()).map(move |ending| (example, ending)))
        .collect();
    let length = |&(example, ending): &(usize, usize)| examples[example].inputs(ending);
    rows.sort_by_key(|row| Reverse(length(row)));

    let mut rest = &rows[..];
    while !rest.is_empty() {
        let mut now = Vec::with_capacity(evaluator.batches_at_once());
        while let Some(longest) = rest.first()
            && now.len() < evaluator.batches_at_once()
        {
            let (rows, later) = rest.split_at(evaluator.rows(length(longest)).min(rest.len()));
            now.push(rows);
            rest = later;
        }
        let batches = now.iter().map(|rows| {
            let sequences = rows.iter().map(|&(example, ending)| examples[example].sequence(ending));
            Batch::padded(&sequences.collect::<Vec<_>>())
        });
        for (rows, losses) in now.iter().zip(evaluator.losses(&checkpoint.parameters, batches)?) {
            for (&(example, ending), losses) in rows.iter().zip(losses.chunks(losses.len() / rows.len())) {
                let scored = &examples[example];
                // The last token of ctx is the input whose target is the ending's first.
                let first = scored.ctx.len() - 1;
                endings[example][ending].add(&losses[first..first + scored.endings[ending].len()]);
            }
            progress(rows.len());
        }
    }
    let scores = examples.iter().zip(&endings).map(Score::new).collect::<Result<_>>()?;
    Ok(Report::new(scores))
}

impl Report {
    fn new(scores: Vec<Score>) -> Self {
        let fraction =
            |right: fn(&Score) -> bool| scores.iter().filter(|score| right(score)).count() as f64 / scores.len() as f64;
        Self {
            accuracy: fraction(|score| score.chosen == score.label),
            accuracy_normalized: fraction(|score| score.chosen_normalized == score.label),
            examples: scores.len(),
            truncated: scores.iter().filter(|score| score.dropped > 0).count(),
            scores,
        }
    }
}

impl Score {
    fn new((example, endings): (&Example, &Vec<Evaluation>)) -> Result<Self> {
        ensure!(
            endings.iter().all(|ending| ending.nats.is_finite()),
            "the model's losses are not finite, so that nothing can be chosen by them; use an earlier checkpoint"
        );
        Ok(Self {
            losses: endings.iter().map(|ending| ending.nats).collect(),
            tokens: endings.iter().map(|ending| ending.tokens).collect(),
            chosen: smallest(endings, |ending| ending.nats),
            chosen_normalized: smallest(endings, Evaluation::loss),
            label: example.label,
            dropped: example.dropped,
        })
    }
}

fn smallest(endings: &[Evaluation], loss: impl Fn(&Evaluation) -> f64) -> usize {
    (0..endings.len())
        .min_by(|&a, &b| loss(&endings[a]).total_cmp(&loss(&endings[b])))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(losses: &[(f64, usize)], label: usize, dropped: usize) -> Score {
        let endings: Vec<_> = losses
            .iter()
            .map(|&(nats, tokens)| Evaluation { nats, tokens })
            .collect();
        let example = Example {
            ctx: vec![0],
            endings: vec![vec![0]; losses.len()],
            label,
            dropped,
        };
        Score::new((&example, &endings)).unwrap()
    }

    #[test]
    fn the_smallest_sum_and_the_smallest_mean_choose_apart() {
        let scores = vec![
            score(&[(4.0, 1), (5.0, 2), (9.0, 3)], 0, 0), // sums choose 0, means of 4, 2.5 and 3 choose 1
            score(&[(4.0, 1), (5.0, 2), (9.0, 3)], 1, 7),
            score(&[(3.0, 1), (3.0, 1)], 0, 0), // the first of equals
            score(&[(2.0, 1), (1.0, 1)], 0, 1),
        ];
        assert_eq!((scores[0].chosen, scores[0].chosen_normalized), (0, 1));
        let report = Report::new(scores);
        assert_eq!((report.accuracy, report.accuracy_normalized), (0.5, 0.5));
        assert_eq!((report.examples, report.truncated), (4, 2));
    }

    #[test]
    fn losses_that_are_not_numbers_choose_nothing() {
        let example = Example {
            ctx: vec![0],
            endings: vec![vec![0]],
            label: 0,
            dropped: 0,
        };
        let broken = vec![Evaluation {
            nats: f64::NAN,
            tokens: 1,
        }];
        assert!(Score::new((&example, &broken)).is_err());
    }
}

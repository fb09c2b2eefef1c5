//! HellaSwag: multiple-choice accuracy by completion loss.
//!
//! The metric is that of Karpathy's build-nanogpt (`hellaswag.py`) and llm.c, which publish 0.2859 for GPT-2 124M, and 0.2955
//! normalized: an ending's loss is the sum of its tokens' negative log-likelihoods after `ctx`, and the smallest sum is the
//! prediction; with length normalization, the smallest mean is, since a sum favours short endings.

mod examples;

pub use examples::{Example, parse, read};

use std::cmp::Reverse;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{Evaluation, Evaluator};
use crate::checkpoint::Checkpoint;
use crate::data::batches::Batch;

/// Accuracy on a file of examples.
#[derive(Clone, Debug, Serialize)]
pub struct HellaSwagResult {
    /// Fraction, 0 to 1, of examples whose correct ending has the smallest loss.
    pub accuracy: f64,
    /// Fraction, 0 to 1, of examples whose correct ending has the smallest loss per token.
    pub accuracy_normalized: f64,
    /// Number of examples.
    pub examples: usize,
    /// Examples whose beginning was truncated because the context was too short.
    pub truncated: usize,
    /// One for each example, in the file's order.
    pub scores: Vec<Score>,
}

/// The losses and predictions for one example.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// Loss of each ending, in nats, summed over its tokens.
    pub losses: Vec<f64>,
    /// Number of tokens of each ending.
    pub tokens: Vec<usize>,
    /// The ending with the smallest sum, the first of equal ones.
    pub chosen: usize,
    /// The ending with the smallest mean over its tokens, the first of equal ones.
    pub chosen_normalized: usize,
    /// The correct ending.
    pub label: usize,
    /// Number of tokens of `ctx` that were truncated.
    pub dropped: usize,
}

/// Evaluates `examples`, at least one, with a checkpoint's model, for whose context they were read. `progress` is called with
/// the number of endings of each batch.
///
/// # Errors
/// Losses that are not finite, or an error of MLX's.
pub fn score(
    checkpoint: &Checkpoint,
    examples: &[Example],
    mut progress: impl FnMut(usize),
) -> Result<HellaSwagResult> {
    let mut evaluator = Evaluator::of_checkpoint(checkpoint)?;
    let mut endings: Vec<Vec<Evaluation>> = examples
        .iter()
        .map(|example| vec![Evaluation::default(); example.endings.len()])
        .collect();
    // Rows of similar lengths are in one batch, so that there is little padding. The longest come first: if memory is too
    // small for them, the error comes at once.
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
                let asked = &examples[example];
                // The last token of ctx is the input whose target is the ending's first token.
                let first = asked.ctx.len() - 1;
                endings[example][ending].add(&losses[first..first + asked.endings[ending].len()]);
            }
            progress(rows.len());
        }
    }
    let scores = examples.iter().zip(&endings).map(Score::new).collect::<Result<_>>()?;
    Ok(HellaSwagResult::new(scores))
}

impl HellaSwagResult {
    fn new(scores: Vec<Score>) -> Self {
        let share =
            |right: fn(&Score) -> bool| scores.iter().filter(|score| right(score)).count() as f64 / scores.len() as f64;
        Self {
            accuracy: share(|score| score.chosen == score.label),
            accuracy_normalized: share(|score| score.chosen_normalized == score.label),
            examples: scores.len(),
            truncated: scores.iter().filter(|score| score.dropped > 0).count(),
            scores,
        }
    }
}

impl Score {
    fn new((example, endings): (&Example, &Vec<Evaluation>)) -> Result<Self> {
        ensure!(
            endings.iter().all(|ending| ending.total_nll.is_finite()),
            "the model's losses are not finite, so there is no prediction; use an earlier checkpoint"
        );
        Ok(Self {
            losses: endings.iter().map(|ending| ending.total_nll).collect(),
            tokens: endings.iter().map(|ending| ending.tokens).collect(),
            chosen: smallest(endings, |ending| ending.total_nll),
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
            .map(|&(total_nll, tokens)| Evaluation { total_nll, tokens })
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
        let report = HellaSwagResult::new(scores);
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
            total_nll: f64::NAN,
            tokens: 1,
        }];
        assert!(Score::new((&example, &broken)).is_err());
    }
}

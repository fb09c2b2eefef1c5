//! `loss.svg`: the run's curves so far: losses, or what an objective is about.

use anyhow::Result;
use plotters::style::RGBColor;

use super::metrics::{DpoRecord, GrpoRecord, Metrics, ObjectiveRecord, StepRecord};
use crate::terminal::plot::{self, Axes, COLOURS, Curve};

/// Pale: batch losses are many, and noisy.
const BATCH: RGBColor = RGBColor(170, 190, 210);

/// Draws against the step: the loss of each logged batch and of both splits; with the rewards of preference pairs, if it learns from
/// these; or for a run that is rewarded, its reward, accuracy and KL divergence.
///
/// # Errors
/// The plot cannot be drawn.
pub fn loss_curve(title: &str, metrics: &Metrics) -> Result<String> {
    if metrics
        .steps()
        .any(|line| matches!(line.objective, Some(ObjectiveRecord::Grpo(_))))
    {
        return reward_curve(title, metrics);
    }
    let rewards = |of: fn(&DpoRecord) -> f32| -> Vec<(f64, f64)> {
        let of_pairs = |line: &StepRecord| match &line.objective {
            Some(ObjectiveRecord::Dpo(pairs)) => Some((line.step as f64, f64::from(of(pairs)))),
            _ => None,
        };
        metrics.steps().filter_map(of_pairs).collect()
    };
    let [chosen, rejected] = [
        rewards(|pairs| pairs.chosen_reward),
        rewards(|pairs| pairs.rejected_reward),
    ];
    let batch = metrics.steps().map(|line| (line.step as f64, f64::from(line.loss)));
    let train = metrics.evaluations().map(|line| (line.step as f64, line.train_loss));
    let val = metrics.evaluations().map(|line| (line.step as f64, line.val_loss));
    plot::curves(
        &Axes {
            title,
            x: "step",
            y: if chosen.is_empty() {
                "loss, nats per token"
            } else {
                "loss and rewards, nats"
            },
            logarithmic: false,
        },
        &[
            curve("batch", batch.collect(), BATCH, 1),
            curve("train", train.collect(), COLOURS[0], 2),
            curve("validation", val.collect(), COLOURS[1], 2),
            curve("reward of chosen", chosen, COLOURS[2], 1),
            curve("reward of rejected", rejected, COLOURS[3], 1),
        ],
    )
}

fn reward_curve(title: &str, metrics: &Metrics) -> Result<String> {
    let of = |of: fn(&GrpoRecord) -> f32| -> Vec<(f64, f64)> {
        let of_answers = |line: &StepRecord| match &line.objective {
            Some(ObjectiveRecord::Grpo(answers)) => Some((line.step as f64, f64::from(of(answers)))),
            _ => None,
        };
        metrics.steps().filter_map(of_answers).collect()
    };
    let accuracy = metrics.evaluations();
    let accuracy = accuracy.filter_map(|line| Some((line.step as f64, line.accuracy?)));
    plot::curves(
        &Axes::new(title, "step", "fraction; KL in nats per token"),
        &[
            curve("reward", of(|line| line.answers.reward), BATCH, 1),
            curve("accuracy, held out", accuracy.collect(), COLOURS[1], 2),
            curve("KL from the reference", of(|line| line.kl), COLOURS[0], 1),
            curve(
                "problems without gradient",
                of(|line| line.answers.equal_groups),
                COLOURS[7],
                1,
            ),
        ],
    )
}

fn curve(name: &str, points: Vec<(f64, f64)>, colour: RGBColor, width: u32) -> Curve {
    let label = points.last().map(|(_, value)| format!("{name} {value:.3}"));
    Curve::new(label, points, colour, width)
}

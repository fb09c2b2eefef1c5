//! `loss.svg`: the run's loss curves so far.

use anyhow::Result;
use plotters::style::RGBColor;

use super::metrics::Metrics;
use crate::terminal::plot::{self, Axes, COLOURS, Curve};

/// Pale: batch losses are many, and noisy.
const BATCH: RGBColor = RGBColor(170, 190, 210);

/// Draws the loss of each logged batch and of both splits against the step.
///
/// # Errors
/// The plot cannot be drawn.
pub fn loss_curve(title: &str, metrics: &Metrics) -> Result<String> {
    let batch = metrics.steps().map(|line| (line.step as f64, f64::from(line.loss)));
    let train = metrics.evaluations().map(|line| (line.step as f64, line.train_loss));
    let val = metrics.evaluations().map(|line| (line.step as f64, line.val_loss));
    let curve = |name: &str, points: Vec<(f64, f64)>, colour, width| {
        let label = points.last().map(|(_, value)| format!("{name} {value:.3}"));
        Curve::new(label, points, colour, width)
    };
    plot::curves(
        &Axes {
            title,
            x: "step",
            y: "loss, nats per token",
            logarithmic: false,
        },
        &[
            curve("batch", batch.collect(), BATCH, 1),
            curve("train", train.collect(), COLOURS[0], 2),
            curve("validation", val.collect(), COLOURS[1], 2),
        ],
    )
}

//! A speedrun as a picture: loss against time, a line for each training, a colour for each recipe.

use anyhow::Result;
use plotters::style::RGBColor;

use super::speedrun::Race;
use crate::terminal::escape::visible;
use crate::terminal::plot::{self, Axes, Curve};

const TARGET: RGBColor = RGBColor(128, 128, 128);

/// Draws the loss curves of all trainings, and the target loss.
///
/// # Errors
/// A picture that cannot be drawn.
pub fn speedrun_curves(title: &str, races: &[Race], target: f64) -> Result<String> {
    let mut names: Vec<String> = races.iter().map(name).collect();
    names.sort();
    names.dedup();

    let mut curves = Vec::new();
    for (number, group) in names.into_iter().enumerate() {
        let mut label = Some(group.clone());
        for race in races.iter().filter(|race| name(race) == group) {
            let points = race
                .curve
                .iter()
                .filter_map(|point| Some((point.seconds, point.val_loss?)));
            curves.push(Curve::numbered(number, label.take(), points.collect()));
        }
    }
    let seconds = curves.iter().flat_map(|curve| &curve.points).map(|point| point.0);
    let last = seconds.fold(1.0, f64::max);
    let line = vec![(0.0, target), (last, target)];
    curves.push(Curve::new(Some(format!("target {target:.3}")), line, TARGET, 1));
    let axes = Axes {
        title,
        x: "seconds of training",
        y: "validation loss, nats per token",
        logarithmic: false,
    };
    plot::curves(&axes, &curves)
}

fn name(race: &Race) -> String {
    visible(&format!("{}, {}", race.engine, race.recipe)).into_owned()
}

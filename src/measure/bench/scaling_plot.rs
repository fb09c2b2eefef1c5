//! `bench-scaling.svg`: how a step's time grows, on logarithmic axes, where a power is a straight line.

use anyhow::Result;

use super::scaling::ScalingCurve;
use crate::terminal::plot::{self, Axes, Curve};

/// Draws each line against how many times its smallest size it is, so that all begin at 1.
///
/// # Errors
/// A picture that cannot be drawn.
pub fn draw(title: &str, lines: &[ScalingCurve]) -> Result<String> {
    let curve = |(number, line): (usize, &ScalingCurve)| {
        let smallest = line.points.first().map_or(1, |point| point.size) as f64;
        let points = line
            .points
            .iter()
            .map(|point| (point.size as f64 / smallest, point.milliseconds));
        let sizes: Vec<String> = line.points.iter().map(|point| point.size.to_string()).collect();
        let label = format!("{} {}: exponent {:.2}", line.of, sizes.join(", "), line.exponent);
        Curve::numbered(number, Some(label), points.collect())
    };
    let axes = Axes {
        title,
        x: "times the smallest size",
        y: "milliseconds a step",
        logarithmic: true,
    };
    plot::curves(&axes, &lines.iter().enumerate().map(curve).collect::<Vec<_>>())
}

//! `loss.svg`: the run's curve so far.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::metrics::Metrics;

const SIZE: (u32, u32) = (900, 520);
/// Colours that people with red-green blindness tell apart (Okabe and Ito 2008).
const BATCH: RGBColor = RGBColor(170, 190, 210);
const TRAIN: RGBColor = RGBColor(0, 114, 178);
const VAL: RGBColor = RGBColor(213, 94, 0);

/// Draws the loss of each logged batch and of both splits against the step.
pub fn loss_curve(title: &str, metrics: &Metrics) -> Result<String> {
    let batch: Vec<(f64, f64)> = metrics
        .steps()
        .map(|line| (line.step as f64, f64::from(line.loss)))
        .collect();
    let train: Vec<(f64, f64)> = metrics
        .evaluations()
        .map(|line| (line.step as f64, line.train_loss))
        .collect();
    let val: Vec<(f64, f64)> = metrics
        .evaluations()
        .map(|line| (line.step as f64, line.val_loss))
        .collect();
    let points = || {
        batch
            .iter()
            .chain(&train)
            .chain(&val)
            .filter(|point| point.1.is_finite())
    };
    let last = points().map(|point| point.0).fold(1.0, f64::max);
    let low = points().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = points().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let margin = (0.05 * (high - low)).max(0.01);

    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 20))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..last, low - margin..high + margin)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.1))
            .x_desc("step")
            .y_desc("loss, nats per token")
            .x_label_formatter(&|step| format!("{step:.0}"))
            .y_label_formatter(&|loss| format!("{loss:.2}"))
            .label_style(("sans-serif", 14))
            .draw()
            .map_err(drawing)?;
        for (points, colour, width, name) in [
            (batch, BATCH, 1, "batch"),
            (train, TRAIN, 2, "train"),
            (val, VAL, 2, "validation"),
        ] {
            let Some(&(_, value)) = points.last() else { continue };
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(width)))
                .map_err(drawing)?
                .label(format!("{name} {value:.3}"))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(("sans-serif", 14))
            .border_style(BLACK.mix(0.2))
            .background_style(WHITE.mix(0.9))
            .draw()
            .map_err(drawing)?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the loss curve could not be drawn: {error}")
}

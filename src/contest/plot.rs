//! A speedrun as a picture: loss against time, a line for each training, a colour for each recipe.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::speedrun::Race;

const SIZE: (u32, u32) = (900, 520);
/// Colours that people with red-green blindness tell apart (Okabe and Ito 2008).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// Draws the curves of all races, and the target that they ran to.
pub fn race_curves(title: &str, races: &[Race], target: f64) -> Result<String> {
    let points = |race: &Race| -> Vec<(f64, f64)> {
        let points = race.curve.iter();
        points
            .filter_map(|point| Some((point.seconds, point.val_loss?)))
            .collect()
    };
    let all: Vec<(f64, f64)> = races.iter().flat_map(points).collect();
    let last = all.iter().map(|point| point.0).fold(1.0, f64::max);
    let low = all.iter().map(|point| point.1).fold(target, f64::min);
    let high = all.iter().map(|point| point.1).fold(target, f64::max);
    let margin = (0.05 * (high - low)).max(0.01);
    let mut names: Vec<String> = races.iter().map(name).collect();
    names.sort();
    names.dedup();

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
            .x_desc("seconds of training")
            .y_desc("validation loss, nats per token")
            .y_label_formatter(&|loss| format!("{loss:.2}"))
            .label_style(("sans-serif", 14))
            .draw()
            .map_err(drawing)?;
        chart
            .draw_series(LineSeries::new([(0.0, target), (last, target)], BLACK.mix(0.5)))
            .map_err(drawing)?
            .label(format!("target {target:.3}"))
            .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], BLACK.mix(0.5)));
        for (index, group) in names.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            for (number, race) in races.iter().filter(|race| name(race) == *group).enumerate() {
                let line = chart
                    .draw_series(LineSeries::new(points(race), colour.stroke_width(2)))
                    .map_err(drawing)?;
                if number == 0 {
                    line.label(group)
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
                }
            }
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

fn name(race: &Race) -> String {
    format!("{}, {}", race.engine, race.recipe)
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the curves could not be drawn: {error}")
}

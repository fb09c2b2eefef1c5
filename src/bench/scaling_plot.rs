//! `bench-scaling.svg`: how a step's time grows, on logarithmic axes, where a power is a straight line.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::scaling::Line;

const SIZE: (u32, u32) = (900, 560);
/// Colours that people with red-green blindness tell apart (Okabe and Ito 2008).
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

/// Draws each line against how many times its smallest size it is, so that all begin at 1.
pub fn draw(title: &str, lines: &[Line]) -> Result<String> {
    let points = |line: &Line| -> Vec<(f64, f64)> {
        let smallest = line.points.first().map_or(1, |point| point.size) as f64;
        let point = |point: &super::scaling::Point| (point.size as f64 / smallest, point.milliseconds);
        line.points.iter().map(point).collect()
    };
    let all: Vec<(f64, f64)> = lines.iter().flat_map(points).collect();
    let right = all.iter().map(|point| point.0).fold(2.0, f64::max);
    let low = all.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = all.iter().map(|point| point.1).fold(low, f64::max);

    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d((1.0..right).log_scale(), (0.7 * low..1.5 * high).log_scale())
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.1))
            .x_desc("times the smallest size")
            .y_desc("milliseconds a step")
            .label_style(("sans-serif", 14))
            .draw()
            .map_err(drawing)?;
        for (line, colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
            let sizes = line.points.iter().map(|point| point.size.to_string());
            let name = format!(
                "{} {}: exponent {:.2}",
                line.of,
                sizes.collect::<Vec<_>>().join(", "),
                line.exponent
            );
            chart
                .draw_series(LineSeries::new(points(line), colour.stroke_width(2)).point_size(3))
                .map_err(drawing)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
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
    anyhow!("the plot could not be drawn: {error}")
}

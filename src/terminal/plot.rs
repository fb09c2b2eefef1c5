//! Curves over one another, as an SVG picture.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Colours that people with red-green blindness tell apart (Okabe and Ito 2008), for lines side by side.
pub const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];
pub const FONT: &str = "sans-serif";
const SIZE: (u32, u32) = (900, 520);

/// What is around the curves.
pub struct Frame<'a> {
    pub title: &'a str,
    /// What the axes measure.
    pub x: &'a str,
    pub y: &'a str,
    /// Both axes are logarithmic, on which a power is a straight line.
    pub logarithmic: bool,
}

/// A line of a plot.
pub struct Curve {
    /// What the legend says of it, if anything.
    pub label: Option<String>,
    pub points: Vec<(f64, f64)>,
    pub colour: RGBColor,
    /// In pixels.
    pub width: u32,
}

impl Curve {
    /// One of several lines side by side, in a colour of its own.
    pub fn numbered(number: usize, label: Option<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            label,
            points,
            colour: COLOURS[number % COLOURS.len()],
            width: 2,
        }
    }
}

/// Draws the finite points of all curves.
///
/// # Errors
/// Nothing to draw.
pub fn curves(frame: &Frame, curves: &[Curve]) -> Result<String> {
    let place = |value: f64| if frame.logarithmic { value.log10() } else { value };
    let points = |curve: &Curve| -> Vec<(f64, f64)> {
        let points = curve.points.iter().map(|&(x, y)| (place(x), place(y)));
        points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    let all: Vec<(f64, f64)> = curves.iter().flat_map(points).collect();
    let (x, y) = (
        range(all.iter().map(|p| p.0), 0.0),
        range(all.iter().map(|p| p.1), 0.05),
    );
    // The legend goes where the curves are low.
    let rises = all
        .iter()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .is_some_and(|top| top.0 > (x.0 + x.1) / 2.0);
    let legend = if rises {
        SeriesLabelPosition::UpperLeft
    } else {
        SeriesLabelPosition::UpperRight
    };
    let tick = |value: &f64| number(if frame.logarithmic { 10_f64.powf(*value) } else { *value });

    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(frame.title, (FONT, 20))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.1))
            .x_desc(frame.x)
            .y_desc(frame.y)
            .x_label_formatter(&tick)
            .y_label_formatter(&tick)
            .label_style((FONT, 14))
            .draw()
            .map_err(drawing)?;
        for curve in curves {
            let style = curve.colour.stroke_width(curve.width);
            let line = chart
                .draw_series(LineSeries::new(points(curve), style))
                .map_err(drawing)?;
            if let Some(label) = &curve.label {
                let sample = curve.colour.stroke_width(2);
                line.label(label)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], sample));
            }
        }
        chart
            .configure_series_labels()
            .position(legend)
            .label_font((FONT, 14))
            .border_style(BLACK.mix(0.2))
            .background_style(WHITE.mix(0.9))
            .draw()
            .map_err(drawing)?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

/// The least and the most, with that share of their distance to either side, and never of no width.
pub fn range(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if !low.is_finite() {
        return (0.0, 1.0);
    }
    let margin = margin * (high - low);
    let least = if high > low { 0.0 } else { 0.01 };
    (low - margin - least, high + margin + least)
}

/// As short as it says what it is.
fn number(value: f64) -> String {
    let rounded = (100.0 * value).round() / 100.0;
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{rounded}")
    }
}

pub fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the picture could not be drawn: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_left_out() {
        let frame = Frame {
            title: "a title",
            x: "step",
            y: "loss",
            logarithmic: false,
        };
        let points = vec![(0.0, 4.0), (1.0, f64::NAN), (2.0, 2.0)];
        let svg = curves(&frame, &[Curve::numbered(0, Some("train".into()), points)]).unwrap();
        assert!(!svg.contains("NaN"), "{svg}");
        for word in ["a title", "step", "loss", "train"] {
            assert!(svg.contains(word), "{word}");
        }
        assert_eq!(range([3.0, 1.0].into_iter(), 0.5), (0.0, 4.0));
        assert_eq!(range([].into_iter(), 0.5), (0.0, 1.0));
    }
}

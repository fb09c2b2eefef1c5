//! Line plots as SVG, legible on a phone.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Colours of the lines, distinguishable with red-green blindness (Okabe and Ito 2008).
pub const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(136, 136, 136),
];
/// Font of all text.
pub const FONT: &str = "sans-serif";

/// Width of every picture in pixels. Scaled to 330 (a phone), text is still about as large as in print.
pub const WIDTH: u32 = 500;

/// Font sizes in pixels: of titles, and of other text.
pub const TITLE: i32 = 15;
pub const LETTER: i32 = 13;

/// Heights in pixels: of the chart with its axes, and of a row of the legend below it.
const CHART_HEIGHT: u32 = 320;
const LEGEND_ROW_HEIGHT: u32 = 19;

/// Maximum length of labels for two columns in the legend, in characters.
const MAX_LABEL_CHARS: usize = 34;

/// Title and axes of a plot.
#[derive(Clone, Copy, Default)]
pub struct Axes<'a> {
    /// Printed above the curves.
    pub title: &'a str,
    /// Label of the x axis.
    pub x: &'a str,
    /// Label of the y axis.
    pub y: &'a str,
    /// Both axes are logarithmic; a power law is a straight line on them.
    pub logarithmic: bool,
}

impl<'a> Axes<'a> {
    /// Linear axes with these labels.
    pub fn new(title: &'a str, x: &'a str, y: &'a str) -> Self {
        Self {
            title,
            x,
            y,
            logarithmic: false,
        }
    }
}

/// A line of a plot.
pub struct Curve {
    /// Its entry in the legend, if any.
    pub label: Option<String>,
    /// Text at the end of the line, if any, for lines that colours alone don't distinguish.
    pub tag: Option<String>,
    /// x and y.
    pub points: Vec<(f64, f64)>,
    /// Colour of the line.
    pub colour: RGBColor,
    /// Width of the line in pixels.
    pub width: u32,
    /// Whether the line is dashed.
    pub dashed: bool,
}

impl Curve {
    /// A solid line without a tag.
    pub fn new(label: Option<String>, points: Vec<(f64, f64)>, colour: RGBColor, width: u32) -> Self {
        Self {
            label,
            tag: None,
            points,
            colour,
            width,
            dashed: false,
        }
    }

    /// The n-th of several lines, in its own colour.
    pub fn numbered(number: usize, label: Option<String>, points: Vec<(f64, f64)>) -> Self {
        Self::new(label, points, COLOURS[number % COLOURS.len()], 2)
    }
}

/// Draws the finite points of all curves, with a legend below.
///
/// # Errors
/// Nothing to draw.
pub fn curves(axes: &Axes, curves: &[Curve]) -> Result<String> {
    let labelled: Vec<&Curve> = curves.iter().filter(|curve| curve.label.is_some()).collect();
    let longest = labelled.iter().filter_map(|curve| curve.label.as_ref());
    let across = match longest.map(|label| label.chars().count()).max() {
        Some(letters) if letters <= MAX_LABEL_CHARS => 2,
        _ => 1,
    };
    let rows = labelled.len().div_ceil(across) as u32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, CHART_HEIGHT + LEGEND_ROW_HEIGHT * rows + 10))
            .into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let (chart, legend) = area.split_vertically(CHART_HEIGHT);
        draw_chart(&area, &chart, axes, curves)?;
        for (index, curve) in labelled.iter().enumerate() {
            let (row, column) = (index / across, index % across);
            let (x, y) = (24 + column as i32 * 236, row as i32 * LEGEND_ROW_HEIGHT as i32 + 10);
            draw_line(&legend, vec![(x, y), (x + 24, y)], curve)?;
            let label = curve.label.clone().unwrap_or_default();
            legend
                .draw(&Text::new(label, (x + 32, y - 7), (FONT, LETTER)))
                .map_err(drawing)?;
        }
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

/// A part of an SVG picture.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_chart(whole: &Area, area: &Area, axes: &Axes, curves: &[Curve]) -> Result<()> {
    let scaled = |value: f64| if axes.logarithmic { value.log10() } else { value };
    let points = |curve: &Curve| -> Vec<(f64, f64)> {
        let points = curve.points.iter().map(|&(x, y)| (scaled(x), scaled(y)));
        points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    let all: Vec<(f64, f64)> = curves.iter().flat_map(points).collect();
    let (x, y) = (
        range(all.iter().map(|p| p.0), 0.0),
        range(all.iter().map(|p| p.1), 0.05),
    );
    let tick = |value: &f64| number(if axes.logarithmic { 10_f64.powf(*value) } else { *value });
    let mut chart = ChartBuilder::on(area)
        .caption(axes.title, (FONT, TITLE))
        .margin(10)
        .margin_right(28) // for the tags
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(x.0..x.1, y.0..y.1)
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .x_labels(7)
        .y_labels(7)
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_label_formatter(&tick)
        .y_label_formatter(&tick)
        .label_style((FONT, LETTER))
        .draw()
        .map_err(drawing)?;
    let mut tags: Vec<(i32, i32, &str)> = Vec::new();
    for curve in curves {
        let points = points(curve);
        if let (Some(tag), Some(last)) = (&curve.tag, points.last()) {
            let (x, y) = chart.plotting_area().map_coordinate(last);
            tags.push((x, y, tag));
        }
        let pixels = points.iter().map(|point| chart.plotting_area().map_coordinate(point));
        draw_line(whole, pixels.collect(), curve)?;
    }
    for (x, y, tag) in separate(tags) {
        whole
            .draw(&Text::new(tag, (x + 5, y - 8), (FONT, LETTER)))
            .map_err(drawing)?;
    }
    Ok(())
}

fn draw_line(area: &Area, pixels: Vec<(i32, i32)>, curve: &Curve) -> Result<()> {
    let style = curve.colour.stroke_width(curve.width);
    if !curve.dashed {
        return area.draw(&PathElement::new(pixels, style)).map_err(drawing);
    }
    for dash in dashes(&pixels) {
        area.draw(&PathElement::new(dash.to_vec(), style)).map_err(drawing)?;
    }
    Ok(())
}

/// Splits a line into dashes of five pixels with gaps of four.
fn dashes(pixels: &[(i32, i32)]) -> Vec<[(i32, i32); 2]> {
    const DASH: f64 = 5.0;
    const PERIOD: f64 = 9.0;
    let mut dashes = Vec::new();
    let mut gone = 0.0; // distance along the line so far
    for ends in pixels.windows(2) {
        let (from, to) = (ends[0], ends[1]);
        let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
        let length = dx.hypot(dy);
        let at = |along: f64| {
            let fraction = (along - gone) / length;
            let x = f64::from(from.0) + fraction * dx;
            let y = f64::from(from.1) + fraction * dy;
            (x.round() as i32, y.round() as i32)
        };
        let mut start = (gone / PERIOD).floor() * PERIOD;
        while length > 0.0 && start < gone + length {
            let (begin, end) = (start.max(gone), (start + DASH).min(gone + length));
            if begin < end {
                dashes.push([at(begin), at(end)]);
            }
            start += PERIOD;
        }
        gone += length;
    }
    dashes
}

/// Moves overlapping tags down.
fn separate(mut tags: Vec<(i32, i32, &str)>) -> Vec<(i32, i32, &str)> {
    const NEAR: i32 = 24;
    tags.sort_by_key(|&(_, y, _)| y);
    for index in 1..tags.len() {
        let (x, mut y, tag) = tags[index];
        for &(other_x, other_y, _) in &tags[..index] {
            if (x - other_x).abs() < NEAR && y < other_y + LETTER {
                y = other_y + LETTER;
            }
        }
        tags[index] = (x, y, tag);
    }
    tags
}

/// (min, max) of the values, widened on both sides by `margin` times their difference; never empty.
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

/// A tick label with at most two decimals.
fn number(value: f64) -> String {
    let rounded = (100.0 * value).round() / 100.0;
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{rounded}")
    }
}

/// An error of the plotting library.
pub fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the picture could not be drawn: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_left_out() {
        let axes = Axes {
            title: "a title",
            x: "step",
            y: "loss",
            logarithmic: false,
        };
        let points = vec![(0.0, 4.0), (1.0, f64::NAN), (2.0, 2.0)];
        let svg = curves(&axes, &[Curve::numbered(0, Some("train".into()), points)]).unwrap();
        assert!(!svg.contains("NaN"), "{svg}");
        for word in ["a title", "step", "loss", "train"] {
            assert!(svg.contains(word), "{word}");
        }
        assert!(svg.contains("width=\"500\""), "{svg}");
        assert_eq!(range([3.0, 1.0].into_iter(), 0.5), (0.0, 4.0));
        assert_eq!(range([].into_iter(), 0.5), (0.0, 1.0));
    }

    #[test]
    fn dashes_run_on_over_the_corners_of_a_line() {
        let dashed = dashes(&[(0, 0), (7, 0), (7, 20)]);
        assert_eq!(dashed, [[(0, 0), (5, 0)], [(7, 2), (7, 7)], [(7, 11), (7, 16)]]);
    }

    #[test]
    fn tags_do_not_lie_on_one_another() {
        let tags = separate(vec![(100, 50, "a"), (100, 52, "b"), (0, 51, "c")]);
        assert_eq!(tags, [(100, 50, "a"), (0, 51, "c"), (100, 63, "b")]);
    }
}

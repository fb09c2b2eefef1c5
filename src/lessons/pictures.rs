//! Plots and heat maps, as SVG.

use anyhow::Result;
use mlx_rs::Array;
use plotters::prelude::*;

use super::arrays::{principal_plane, rows};
pub use crate::terminal::plot::Axes;
use crate::terminal::plot::{self, Area, COLOURS, FONT, LETTER, TITLE, WIDTH, drawing, range};

/// A curve.
pub struct Series {
    /// Its label.
    pub name: String,
    /// (x, y).
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A curve through these points.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        let name = name.into();
        Self { name, points }
    }

    /// Values at x = `first`, `first` + 1 and so on.
    pub fn numbered(name: &str, first: u32, values: impl IntoIterator<Item = f64>) -> Self {
        Self {
            name: name.into(),
            points: (first..).map(f64::from).zip(values).collect(),
        }
    }
}

/// A line plot; the legend has the curves' names and last values.
pub fn curves(axes: &Axes, series: &[Series]) -> Result<String> {
    let curve = |(number, series): (usize, &Series)| {
        let last = series.points.last().map_or(f64::NAN, |point| point.1);
        let label = format!("{} {last:.2}", series.name);
        plot::Curve::numbered(number, Some(label), series.points.clone())
    };
    plot::curves(axes, &series.iter().enumerate().map(curve).collect::<Vec<_>>())
}

/// Whether a label belongs to a class.
type IsKind = fn(&str) -> bool;

/// Classes of characters, for the colours of their points.
const KINDS: [(&str, IsKind); 4] = [
    ("vowels", |name| "aeiou".contains(name)),
    ("consonants", |name| name.chars().all(char::is_lowercase)),
    ("capitals", |name| name.chars().all(char::is_uppercase)),
    ("signs", |_| true),
];

/// Scatter plot of labelled vectors `[V, C]` in the plane of their first two principal components, the two directions in which
/// they differ most.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn principal_components(title: &str, labels: Vec<String>, vectors: &Array) -> Result<String> {
    let named = labels.into_iter().zip(rows(&principal_plane(vectors)?)?);
    let named: Vec<_> = named
        .map(|(label, place)| (label, f64::from(place[0]), f64::from(place[1])))
        .collect();
    points(title, &named)
}

/// Scatter plot of labels. Coordinates are compressed around the median, so that outliers don't dominate, and overlapping labels
/// are moved apart.
pub fn points(title: &str, points: &[(String, f64, f64)]) -> Result<String> {
    const TOP: f64 = 64.0;
    const MARGIN: f64 = 16.0;
    let xs = compress_outliers(points.iter().map(|point| point.1).collect());
    let ys = compress_outliers(points.iter().map(|point| point.2).collect());
    let size = f64::from(WIDTH) - 2.0 * MARGIN;
    let wanted = xs
        .iter()
        .zip(&ys)
        .map(|(x, y)| (MARGIN + size * x, TOP + size * (1.0 - y)));
    let places = apart(wanted.collect());
    draw((WIDTH, WIDTH + TOP as u32), |area| {
        text(area, title, (16, 12), TITLE)?;
        let kind = |name: &str| KINDS.iter().position(|(_, is)| is(name)).unwrap_or_default();
        let mut left = 16;
        for (number, (name, _)) in KINDS.iter().enumerate() {
            coloured(area, name, (left, 38), COLOURS[number])?;
            left += 8 * name.chars().count() as i32 + 20;
        }
        for ((name, ..), (x, y)) in points.iter().zip(places) {
            let at = (x as i32 - 4, y as i32 - 8);
            coloured(area, name, at, COLOURS[kind(name)])?;
        }
        Ok(())
    })
}

/// Maps numbers to 0…1 by asinh of their distance from the median: linear near it, logarithmic far from it.
fn compress_outliers(values: Vec<f64>) -> Vec<f64> {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let middle = median(values.clone());
    let usual = median(values.iter().map(|value| (value - middle).abs()).collect()).max(1e-9);
    let bent: Vec<f64> = values.iter().map(|value| ((value - middle) / usual).asinh()).collect();
    let (low, high) = range(bent.iter().copied(), 0.0);
    bent.iter().map(|value| (value - low) / (high - low)).collect()
}

/// Moves positions apart until labels don't overlap.
fn apart(mut places: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    const NEAR: f64 = 14.0;
    const ROUNDS: usize = 60;
    for _ in 0..ROUNDS {
        for first in 0..places.len() {
            for second in 0..first {
                let (a, b) = (places[first], places[second]);
                let (dx, dy) = (a.0 - b.0, a.1 - b.1);
                let distance = dx.hypot(dy);
                if distance >= NEAR {
                    continue;
                }
                // Coinciding labels move sideways.
                let (ux, uy) = if distance > 0.0 {
                    (dx / distance, dy / distance)
                } else {
                    (1.0, 0.0)
                };
                let push = (NEAR - distance) / 2.0;
                places[first] = (a.0 + push * ux, a.1 + push * uy);
                places[second] = (b.0 - push * ux, b.1 - push * uy);
            }
        }
    }
    places
}

/// Grouped bar chart of fractions from 0 to 1: for each of `names` a bar per group, `groups[group].1[name]`.
pub fn bars(title: &str, names: &[String], groups: &[(String, Vec<f64>)]) -> Result<String> {
    const LEFT: i32 = 44;
    const TOP: i32 = 72;
    const HEIGHT: i32 = 220;
    let step = (WIDTH as i32 - LEFT - 10) / names.len().max(1) as i32;
    let bar = (step - 4) / groups.len().max(1) as i32;
    draw((WIDTH, (TOP + HEIGHT + 34) as u32), |area| {
        text(area, title, (16, 12), TITLE)?;
        let mut left = LEFT;
        for (index, (name, _)) in groups.iter().enumerate() {
            square(area, [(left, 42), (left + 12, 54)], &COLOURS[index % COLOURS.len()])?;
            text(area, name, (left + 18, 41), LETTER)?;
            left += 8 * name.chars().count() as i32 + 40;
        }
        let largest = groups
            .iter()
            .flat_map(|(_, shares)| shares)
            .copied()
            .fold(1e-9, f64::max);
        for mark in [0.0, largest / 2.0, largest] {
            let y = TOP + HEIGHT - (f64::from(HEIGHT) * mark / largest) as i32;
            let line = vec![(LEFT - 4, y), (WIDTH as i32 - 10, y)];
            area.draw(&PathElement::new(line, BLACK.mix(0.15))).map_err(drawing)?;
            text(area, &format!("{mark:.2}"), (8, y - 7), LETTER)?;
        }
        for (place, name) in names.iter().enumerate() {
            let x = LEFT + step * place as i32;
            text(area, name, (x + step / 2 - 6, TOP + HEIGHT + 8), LETTER)?;
            for (index, (_, shares)) in groups.iter().enumerate() {
                let y = TOP + HEIGHT - (f64::from(HEIGHT) * shares[place] / largest) as i32;
                let x = x + bar * index as i32;
                let corners = [(x, y), (x + bar - 1, TOP + HEIGHT)];
                square(area, corners, &COLOURS[index % COLOURS.len()])?;
            }
        }
        Ok(())
    })
}

/// The same as text, with `header` above the names.
pub fn text_bars(header: &str, names: &[String], groups: &[(String, Vec<f64>)]) -> String {
    let width = header.chars().count();
    let titles = groups.iter().map(|(title, _)| format!("  {title:<22}"));
    let mut text = format!("{header}{}", titles.collect::<String>());
    for (at, name) in names.iter().enumerate() {
        text.truncate(text.trim_end().len());
        text += &format!("\n{name:<width$}");
        for (_, shares) in groups {
            let bar = "█".repeat((13.0 * shares[at]).round() as usize);
            text += &match shares[at] > 0.0 {
                true => format!("  {:>5.1} %  {bar:<13}", 100.0 * shares[at]),
                false => format!("  {:>5}    {bar:<13}", "–"),
            };
        }
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// Heat map of numbers from 0 to 1, larger is darker: `values[row][column]`.
pub fn heat_map(title: &str, rows: &[String], columns: &[String], values: &[Vec<f32>]) -> Result<String> {
    let side = side_of(WIDTH, columns);
    draw((WIDTH, panel_height(rows, side)), |area| {
        panel(area, title, rows, columns, values, side)
    })
}

/// Several heat maps with the same rows and columns, two side by side: title and values of each.
pub fn heat_maps(rows: &[String], columns: &[String], panels: &[(String, Vec<Vec<f32>>)]) -> Result<String> {
    let across = panels.len().clamp(1, 2);
    let down = panels.len().div_ceil(across).max(1);
    let side = side_of(WIDTH / across as u32, columns);
    draw((WIDTH, panel_height(rows, side) * down as u32), |area| {
        let areas = area.split_evenly((down, across));
        for (area, (title, values)) in areas.iter().zip(panels) {
            panel(area, title, rows, columns, values, side)?;
        }
        Ok(())
    })
}

/// Margins of a heat map at the left and the top, in pixels.
const LEFT: i32 = 34;
const TOP: i32 = 56;

/// Side of a heat map's square, so that all columns fit.
fn side_of(width: u32, columns: &[String]) -> i32 {
    ((width as i32 - LEFT - 8) / columns.len().max(1) as i32).min(24)
}

fn panel_height(rows: &[String], side: i32) -> u32 {
    (TOP + side * rows.len() as i32 + 12) as u32
}

fn panel(area: &Area, title: &str, rows: &[String], columns: &[String], values: &[Vec<f32>], side: i32) -> Result<()> {
    text(area, title, (12, 12), TITLE)?;
    for (column, name) in columns.iter().enumerate() {
        text(
            area,
            name,
            (LEFT + side * column as i32 + side / 2 - 4, TOP - 18),
            LETTER,
        )?;
    }
    for (row, name) in rows.iter().enumerate() {
        let y = TOP + side * row as i32;
        text(
            area,
            name,
            (LEFT - 8 - 8 * name.chars().count() as i32, y + side / 2 - 6),
            LETTER,
        )?;
        for (column, value) in values[row].iter().enumerate() {
            let x = LEFT + side * column as i32;
            let corners = [(x, y), (x + side - 1, y + side - 1)];
            square(area, corners, &COLOURS[0].mix(f64::from(value.clamp(0.0, 1.0))))?;
            area.draw(&Rectangle::new(corners, BLACK.mix(0.08))).map_err(drawing)?;
        }
    }
    Ok(())
}

/// Arc diagram: labels on a line, with arcs from the two earlier ones with the largest `values[to][from]` (0 to 1); larger values
/// are wider and darker.
pub fn arcs(title: &str, names: &[String], values: &[Vec<f32>]) -> Result<String> {
    const LEFT: i32 = 20;
    const TOP: i32 = 44;
    let gap = (WIDTH as i32 - 2 * LEFT) / names.len().max(1) as i32;
    let x = |place: usize| LEFT + gap * place as i32;
    let mut strongest: Vec<(usize, usize, f32)> = Vec::new();
    for (to, row) in values.iter().enumerate() {
        let mut from: Vec<usize> = (0..to).collect();
        from.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        strongest.extend(from.iter().take(2).map(|&from| (to, from, row[from])));
    }
    // The darkest last, on top.
    strongest.sort_by(|a, b| a.2.total_cmp(&b.2));
    let widest = strongest
        .iter()
        .map(|&(to, from, _)| x(to) - x(from))
        .max()
        .unwrap_or(0);
    let base = TOP + widest / 2;
    draw((WIDTH, (base + 40) as u32), |area| {
        text(area, title, (16, 12), TITLE)?;
        for (place, name) in names.iter().enumerate() {
            text(area, name, (x(place) - 4, base + 10), LETTER + 2)?;
        }
        for &(to, from, value) in &strongest {
            let radius = f64::from(x(to) - x(from)) / 2.0;
            let middle = f64::from(x(to) + x(from)) / 2.0;
            let arc = (0..=36).map(|step| {
                let (sine, cosine) = (std::f64::consts::PI * f64::from(step) / 36.0).sin_cos();
                let (across, up) = (middle + radius * cosine, radius * sine);
                (across.round() as i32, (f64::from(base) - up).round() as i32)
            });
            let value = f64::from(value.clamp(0.0, 1.0));
            let shade = COLOURS[to % 6].mix(0.5 + 0.5 * value);
            let stroke = shade.stroke_width(1 + (6.0 * value).round() as u32);
            area.draw(&PathElement::new(arc.collect::<Vec<_>>(), stroke))
                .map_err(drawing)?;
        }
        Ok(())
    })
}

/// Rows of square drawings under their titles, of `side` · `side` numbers each from 0, white, to 1.
pub fn drawings(side: usize, panels: &[(String, Vec<Vec<f32>>)]) -> Result<String> {
    const PIXEL: i32 = 3;
    let (step, mut top) = (PIXEL * side as i32 + 10, 0);
    let titles = panels.iter().filter(|(title, _)| !title.is_empty()).count() as i32;
    let height = step * panels.len() as i32 + 30 * titles;
    draw((WIDTH, height as u32), |area| {
        for (title, drawings) in panels {
            if !title.is_empty() {
                text(area, title, (12, top + 8), LETTER + 3)?;
                top += 30;
            }
            for (number, drawing) in drawings.iter().enumerate() {
                for (at, ink) in drawing.iter().enumerate() {
                    let x = 12 + step * number as i32 + PIXEL * (at % side) as i32;
                    let y = top + PIXEL * (at / side) as i32;
                    let ink = BLACK.mix(0.08 + 0.92 * f64::from(ink.clamp(0.0, 1.0)));
                    square(area, [(x, y), (x + PIXEL, y + PIXEL)], &ink)?; // the second corner is outside
                }
            }
            top += step;
        }
        Ok(())
    })
}

fn draw(size: (u32, u32), on: impl FnOnce(&Area) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        on(&area)?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

fn text(area: &Area, text: &str, at: (i32, i32), height: i32) -> Result<()> {
    area.draw(&Text::new(text.to_owned(), at, (FONT, height)))
        .map_err(drawing)
}

fn coloured(area: &Area, text: &str, at: (i32, i32), colour: RGBColor) -> Result<()> {
    let font = (FONT, LETTER + 2).into_font().color(&colour);
    area.draw(&Text::new(text.to_owned(), at, font)).map_err(drawing)
}

fn square(area: &Area, corners: [(i32, i32); 2], colour: &impl Color) -> Result<()> {
    area.draw(&Rectangle::new(corners, colour.to_rgba().filled()))
        .map_err(drawing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_do_not_lie_on_one_another() {
        let crowd = (0..20).map(|n| (f64::from(n % 3), f64::from(n % 5))).collect();
        let places = apart(crowd);
        for (place, a) in places.iter().enumerate() {
            for b in &places[..place] {
                assert!((a.0 - b.0).hypot(a.1 - b.1) > 10.0, "{a:?} {b:?}");
            }
        }
    }

    /// Each listener's strongest arcs are drawn, however small its weights: a head that has learned nothing yet has none
    /// above a few per cent.
    #[test]
    fn no_arc_is_too_pale_to_see() {
        let names: Vec<String> = ["a", "b", "c", "d"].map(String::from).into();
        let even: Vec<Vec<f32>> = (0..4).map(|row| vec![1.0 / (row + 1) as f32 / 100.0; 4]).collect();
        let svg = arcs("title", &names, &even).unwrap();
        let drawn = svg.matches("<polyline").count();
        assert_eq!(drawn, 1 + 2 + 2, "{svg}");
        let opacities = svg
            .split("<polyline")
            .skip(1)
            .filter_map(|line| line.split_once("opacity=\"")?.1.split_once('"')?.0.parse::<f64>().ok());
        assert!(
            opacities.clone().count() == drawn && opacities.min_by(f64::total_cmp) >= Some(0.3),
            "{svg}"
        );
    }
}

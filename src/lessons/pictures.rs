//! Pictures of numbers, as SVG.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::terminal::plot::{self, COLOURS, FONT, Frame, drawing, range};

/// A line of a plot: its name and its points.
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// How a plot's axes are called.
pub struct Axes<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
}

/// Curves over one another, the names and last values beside them.
pub fn curves(axes: &Axes, curves: &[Curve]) -> Result<String> {
    let curve = |(number, curve): (usize, &Curve)| {
        let last = curve.points.last().map_or(f64::NAN, |point| point.1);
        let label = format!("{} {last:.2}", curve.name);
        plot::Curve::numbered(number, Some(label), curve.points.clone())
    };
    let frame = Frame {
        title: axes.title,
        x: axes.x,
        y: axes.y,
        logarithmic: false,
    };
    plot::curves(&frame, &curves.iter().enumerate().map(curve).collect::<Vec<_>>())
}

/// Points with names, such as vectors in two dimensions.
pub fn points(title: &str, points: &[(String, f64, f64)]) -> Result<String> {
    let (x, y) = (
        range(points.iter().map(|p| p.1), 0.05),
        range(points.iter().map(|p| p.2), 0.05),
    );
    draw((720, 720), |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(title, (FONT, 20))
            .margin(16)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)
            .map_err(drawing)?;
        chart
            .draw_series(points.iter().map(|(name, x, y)| {
                let colour = if name.chars().all(char::is_alphabetic) { 0 } else { 1 };
                Text::new(name.clone(), (*x, *y), (FONT, 18).into_font().color(&COLOURS[colour]))
            }))
            .map_err(drawing)?;
        Ok(())
    })
}

/// Shares, from 0 to 1, as bars side by side: for each of `names` one of each group, `groups[group].1[name]`.
pub fn bars(title: &str, names: &[String], groups: &[(String, Vec<f64>)]) -> Result<String> {
    let (left, top, height, bar) = (50, 70, 260, 10);
    let step = bar * groups.len() as i32 + 14;
    let width = (left + step * names.len() as i32 + 20).max(480);
    draw((width as u32, (top + height + 50) as u32), |area| {
        let text = |text: &str, at: (i32, i32), points: i32| {
            area.draw(&Text::new(text.to_owned(), at, (FONT, points)))
                .map_err(drawing)
        };
        text(title, (16, 12), 18)?;
        for (index, (name, _)) in groups.iter().enumerate() {
            let x = left + 140 * index as i32;
            let colour = COLOURS[index % COLOURS.len()].filled();
            area.draw(&Rectangle::new([(x, 42), (x + 12, 54)], colour))
                .map_err(drawing)?;
            text(name, (x + 18, 41), 14)?;
        }
        let largest = groups
            .iter()
            .flat_map(|(_, shares)| shares)
            .copied()
            .fold(1e-9, f64::max);
        text(&format!("{largest:.2}"), (8, top - 6), 13)?;
        for (place, name) in names.iter().enumerate() {
            let x = left + step * place as i32;
            text(name, (x + step / 2 - 12, top + height + 8), 15)?;
            for (index, (_, shares)) in groups.iter().enumerate() {
                let y = top + height - (f64::from(height) * shares[place] / largest) as i32;
                let x = x + bar * index as i32;
                let colour = COLOURS[index % COLOURS.len()].filled();
                area.draw(&Rectangle::new([(x, y), (x + bar - 2, top + height)], colour))
                    .map_err(drawing)?;
            }
        }
        Ok(())
    })
}

/// Numbers from 0 to 1 as squares, the darker the larger: `values[row][column]`.
pub fn heat_map(title: &str, rows: &[String], columns: &[String], values: &[Vec<f32>]) -> Result<String> {
    draw(panel_size(rows, columns), |area| {
        panel(area, title, rows, columns, values)
    })
}

/// Several of them of the same rows and columns, two side by side: each a title and its values.
pub fn heat_maps(rows: &[String], columns: &[String], panels: &[(String, Vec<Vec<f32>>)]) -> Result<String> {
    let (width, height) = panel_size(rows, columns);
    let across = panels.len().clamp(1, 2);
    let down = panels.len().div_ceil(across).max(1);
    draw((width * across as u32, height * down as u32), |area| {
        let areas = area.split_evenly((down, across));
        for (area, (title, values)) in areas.iter().zip(panels) {
            panel(area, title, rows, columns, values)?;
        }
        Ok(())
    })
}

/// Side of a heat map's square, and its margins at the left and the top, in pixels.
const CELL: i32 = 26;
const LEFT: i32 = 70;
const TOP: i32 = 80;

fn panel_size(rows: &[String], columns: &[String]) -> (u32, u32) {
    (
        (LEFT + CELL * columns.len() as i32 + 20).max(320) as u32,
        (TOP + CELL * rows.len() as i32 + 20) as u32,
    )
}

fn panel(area: &Area, title: &str, rows: &[String], columns: &[String], values: &[Vec<f32>]) -> Result<()> {
    let text = |text: &str, at: (i32, i32), points: i32| {
        area.draw(&Text::new(text.to_owned(), at, (FONT, points)))
            .map_err(drawing)
    };
    text(title, (16, 16), 18)?;
    for (column, name) in columns.iter().enumerate() {
        text(name, (LEFT + CELL * column as i32 + 8, TOP - 22), 15)?;
    }
    for (row, name) in rows.iter().enumerate() {
        let y = TOP + CELL * row as i32;
        text(name, (LEFT - 14 - 8 * name.chars().count() as i32, y + 6), 15)?;
        for (column, value) in values[row].iter().enumerate() {
            let x = LEFT + CELL * column as i32;
            let shade = COLOURS[0].mix(f64::from(value.clamp(0.0, 1.0)));
            let corners = [(x, y), (x + CELL - 1, y + CELL - 1)];
            area.draw(&Rectangle::new(corners, shade.filled())).map_err(drawing)?;
            area.draw(&Rectangle::new(corners, BLACK.mix(0.08))).map_err(drawing)?;
        }
    }
    Ok(())
}

/// Names on a line, and arcs from each to those before it, the wider the larger: `values[to][from]`, from 0 to 1.
pub fn arcs(title: &str, names: &[String], values: &[Vec<f32>]) -> Result<String> {
    let (gap, left) = (34, 40);
    let base = 70 + gap * names.len() as i32 / 2; // the widest arc is half as high as the line is long
    let size = ((2 * left + gap * names.len() as i32) as u32, (base + 60) as u32);
    draw(size, |area| {
        area.draw(&Text::new(title.to_owned(), (16, 16), (FONT, 18)))
            .map_err(drawing)?;
        let x = |place: usize| left + gap * place as i32;
        for (place, name) in names.iter().enumerate() {
            area.draw(&Text::new(name.clone(), (x(place) - 5, base + 10), (FONT, 18)))
                .map_err(drawing)?;
        }
        for (to, row) in values.iter().enumerate() {
            for (from, value) in row.iter().enumerate().take(to) {
                let radius = f64::from(x(to) - x(from)) / 2.0;
                let middle = f64::from(x(to) + x(from)) / 2.0;
                let arc = (0..=24).map(|step| {
                    let (sine, cosine) = (std::f64::consts::PI * f64::from(step) / 24.0).sin_cos();
                    (
                        (middle + radius * cosine) as i32,
                        (f64::from(base) - radius * sine) as i32,
                    )
                });
                let shade = COLOURS[from % COLOURS.len()].mix(f64::from(value.clamp(0.0, 1.0)));
                let stroke = shade.stroke_width((6.0 * value).round() as u32);
                if stroke.stroke_width > 0 {
                    area.draw(&PathElement::new(arc.collect::<Vec<_>>(), stroke))
                        .map_err(drawing)?;
                }
            }
        }
        Ok(())
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

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

//! Lines of text to a frame.

use embedded_graphics::Drawable;
use embedded_graphics::geometry::Point;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::text::{Baseline, Text};

use super::glyphs::{FontSet, LARGE, MEDIUM, SMALL, font_of, replace_missing};
use super::layout::{cut, paragraphs, wrap};
use super::{Bitmap, Panel};

/// Empty pixels at each edge.
const MARGIN: u32 = 4;

/// A size of text: a set of fonts, doubled so many times.
struct TextSize {
    fonts: FontSet,
    doublings: u32,
}

/// From the largest to the smallest that can be read on a panel of 110 to 130 pixels an inch.
const SIZES: [TextSize; 6] = [
    size(LARGE, 2),
    size(LARGE, 1),
    size(MEDIUM, 1),
    size(LARGE, 0),
    size(MEDIUM, 0),
    size(SMALL, 0),
];

const fn size(fonts: FontSet, doublings: u32) -> TextSize {
    TextSize { fonts, doublings }
}

impl TextSize {
    /// Width and height of a character, before it is doubled.
    fn cell(&self) -> (u32, u32) {
        let size = self.fonts[0].character_size;
        (size.width, size.height)
    }

    /// Columns and rows in that many pixels.
    fn columns_and_rows(&self, width: u32, height: u32) -> (usize, usize) {
        let (cell_width, cell_height) = self.cell();
        let of = |pixels: u32, cell: u32| ((pixels >> self.doublings) / cell).max(1) as usize;
        (of(width, cell_width), of(height, cell_height))
    }
}

/// A frame with a text in the largest size in which all of it fits without a broken word; if it fits in none, its beginning in
/// the smallest. The block is in the middle, its lines begin at the left.
pub fn draw(text: &str, panel: Panel) -> Bitmap {
    let (width, height) = panel.size();
    let text = replace_missing(text);
    let paragraphs = paragraphs(&text);
    let (inner_width, inner_height) = (width - 2 * MARGIN, height - 2 * MARGIN);
    let fitting = SIZES.iter().find_map(|size| {
        let (columns, rows) = size.columns_and_rows(inner_width, inner_height);
        let wrapped = wrap(&paragraphs, columns);
        let fits = wrapped.lines.len() <= rows && !wrapped.broke_word;
        fits.then_some((size, wrapped.lines))
    });
    let (size, lines) = fitting.unwrap_or_else(|| {
        let smallest = &SIZES[SIZES.len() - 1];
        let (columns, rows) = smallest.columns_and_rows(inner_width, inner_height);
        (smallest, cut(wrap(&paragraphs, columns).lines, rows, columns))
    });
    let mut block = draw_lines(&size.fonts, &lines);
    for _ in 0..size.doublings {
        block = block.doubled();
    }
    let mut frame = Bitmap::new(width, height);
    frame.paste(&block, (width - block.width()) / 2, (height - block.height()) / 2);
    frame
}

/// The lines below each other, on a picture just as large as they are.
fn draw_lines(fonts: &FontSet, lines: &[String]) -> Bitmap {
    let cell = fonts[0].character_size;
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let mut block = Bitmap::new(columns as u32 * cell.width, lines.len() as u32 * cell.height);
    for (row, line) in lines.iter().enumerate() {
        for (column, c) in line.chars().enumerate() {
            let Some(font) = font_of(fonts, c) else { continue };
            let place = Point::new(column as i32 * cell.width as i32, row as i32 * cell.height as i32);
            let style = MonoTextStyle::new(font, BinaryColor::On);
            let Ok(_) = Text::with_baseline(c.encode_utf8(&mut [0; 4]), place, style, Baseline::Top).draw(&mut block);
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn a_text_of_any_length_makes_a_frame_and_keeps_its_margin() {
        for &panel in Panel::value_variants() {
            for text in [
                "",
                "I",
                "\n\n",
                &"honorificabilitudinitatibus".repeat(9),
                &"to be or not to be ".repeat(200),
            ] {
                let frame = draw(text, panel);
                let (width, height) = panel.size();
                assert_eq!((frame.width(), frame.height()), (width, height));
                let edge = |x: u32, y: u32| x < MARGIN || y < MARGIN || x >= width - MARGIN || y >= height - MARGIN;
                for y in 0..height {
                    assert!(
                        (0..width).all(|x| !edge(x, y) || !frame.is_black(x, y)),
                        "{panel:?} {text}"
                    );
                }
                let is_black = frame.bits().iter().any(|&byte| byte != 0);
                assert_eq!(is_black, !text.trim().is_empty(), "{panel:?} {text}");
            }
        }
    }

    #[test]
    fn a_shorter_text_is_larger() {
        let rows_with_ink = |text: &str| {
            let frame = draw(text, Panel::Inch7_5);
            let is_inked = |y: u32| (0..frame.width()).any(|x| frame.is_black(x, y));
            (0..frame.height()).filter(|&y| is_inked(y)).count()
        };
        let heights = [3, 31, 70].map(|letters| rows_with_ink(&"H".repeat(letters)));
        assert!(heights[0] > heights[1] && heights[1] > heights[2], "{heights:?}");
    }
}

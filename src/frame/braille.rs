//! A frame for a terminal: 2 × 4 pixels a character, in Unicode's Braille patterns.

use super::Bitmap;

/// The bits of U+2800's dots, by row and column.
const DOTS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// The frame in lines of at most `columns` characters, if that is given: then several pixels make a dot, which is black if one of
/// them is.
pub fn braille(frame: &Bitmap, columns: Option<usize>) -> String {
    let pixels = columns.map_or(1, |columns| frame.width().div_ceil(2 * columns.max(1) as u32));
    let is_dot = |x: u32, y: u32| {
        let (x, y) = (x * pixels, y * pixels);
        (0..pixels * pixels).any(|i| frame.is_black(x + i % pixels, y + i / pixels))
    };
    let mut text = String::new();
    for y in (0..frame.height().div_ceil(pixels)).step_by(4) {
        for x in (0..frame.width().div_ceil(pixels)).step_by(2) {
            let dots = (0..8).filter(|i| is_dot(x + i % 2, y + i / 2));
            let bits: u32 = dots.map(|i| DOTS[i as usize / 2][i as usize % 2]).sum();
            text.push(char::from_u32(0x2800 + bits).unwrap_or(' '));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_is_a_dot_and_a_narrow_terminal_has_fewer() {
        let mut frame = Bitmap::new(5, 5);
        for (x, y) in [(0, 0), (1, 3), (4, 4)] {
            frame.set(x, y, true);
        }
        assert_eq!(braille(&frame, None), "⢁⠀⠀\n⠀⠀⠁\n");
        assert_eq!(
            braille(&frame, Some(2)),
            "⠑⠄\n"
                .replace('⠑', &braille_of(&[(0, 0), (0, 1)]))
                .replace('⠄', &braille_of(&[(0, 2)]))
        );
    }

    fn braille_of(dots: &[(usize, usize)]) -> String {
        let bits: u32 = dots.iter().map(|&(x, y)| DOTS[y][x]).sum();
        char::from_u32(0x2800 + bits).unwrap().to_string()
    }
}

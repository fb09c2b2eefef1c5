//! A picture of black and white pixels.

use std::convert::Infallible;

use anyhow::{Result, ensure};
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Size};
use embedded_graphics::pixelcolor::BinaryColor;

/// A picture of black and white pixels: 8 per byte, the leftmost in the highest bit, 1 is black, and each row begins with a byte
/// (as in PBM files).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    width: u32,
    height: u32,
    bits: Vec<u8>,
}

impl Bitmap {
    /// A white one of that many pixels.
    pub fn new(width: u32, height: u32) -> Self {
        let bits = vec![0; (width.div_ceil(8) * height) as usize];
        Self { width, height, bits }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The rows, as described at [`Bitmap`].
    pub fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Whether that pixel is black; outside of the picture none is.
    pub fn is_black(&self, x: u32, y: u32) -> bool {
        x < self.width && y < self.height && self.bits[self.byte(x, y)] & (0x80 >> (x % 8)) != 0
    }

    /// Makes a pixel black or white; nothing outside of the picture.
    pub fn set(&mut self, x: u32, y: u32, black: bool) {
        if x >= self.width || y >= self.height {
            return;
        }
        let (byte, bit) = (self.byte(x, y), 0x80 >> (x % 8));
        if black {
            self.bits[byte] |= bit;
        } else {
            self.bits[byte] &= !bit;
        }
    }

    fn byte(&self, x: u32, y: u32) -> usize {
        (y * self.width.div_ceil(8) + x / 8) as usize
    }

    /// The picture at twice its size, with smooth diagonals (the algorithm Scale2x, by which an edge between two neighbours of
    /// one colour cuts the corner of a pixel).
    pub fn doubled(&self) -> Self {
        let mut doubled = Self::new(2 * self.width, 2 * self.height);
        for y in 0..self.height {
            for x in 0..self.width {
                let centre = self.is_black(x, y);
                let up = self.is_black(x, y.wrapping_sub(1));
                let left = self.is_black(x.wrapping_sub(1), y);
                let right = self.is_black(x + 1, y);
                let down = self.is_black(x, y + 1);
                let corner = |a: bool, b: bool, c: bool, d: bool| if a == b && a != c && b != d { a } else { centre };
                doubled.set(2 * x, 2 * y, corner(left, up, down, right));
                doubled.set(2 * x + 1, 2 * y, corner(up, right, left, down));
                doubled.set(2 * x, 2 * y + 1, corner(down, left, right, up));
                doubled.set(2 * x + 1, 2 * y + 1, corner(right, down, up, left));
            }
        }
        doubled
    }

    /// Draws another picture's black pixels with its upper left corner at `(x, y)`.
    pub fn paste(&mut self, other: &Self, x: u32, y: u32) {
        for row in 0..other.height {
            for column in (0..other.width).filter(|&column| other.is_black(column, row)) {
                self.set(x + column, y + row, true);
            }
        }
    }

    /// As a file in the format PBM (P4), with a comment of one line.
    pub fn to_pbm(&self, comment: &str) -> Vec<u8> {
        let mut file = format!("P4\n# {comment}\n{} {}\n", self.width, self.height).into_bytes();
        file.extend(&self.bits);
        file
    }

    /// Reads what [`to_pbm`](Self::to_pbm) wrote.
    ///
    /// # Errors
    /// It is no such file, or not whole.
    pub fn from_pbm(file: &[u8]) -> Result<Self> {
        let mut parts = file.splitn(4, |&byte| byte == b'\n');
        let mut line = || parts.next().and_then(|line| std::str::from_utf8(line).ok());
        let (magic, comment, size) = (line(), line(), line());
        let size = size.and_then(|size| {
            let (width, height) = size.split_once(' ')?;
            Some((width.parse::<u32>().ok()?, height.parse::<u32>().ok()?))
        });
        let is_frame = magic == Some("P4") && comment.is_some_and(|comment| comment.starts_with('#'));
        let (Some((width, height)), Some(bits), true) = (size, parts.next(), is_frame) else {
            anyhow::bail!("it is no frame");
        };
        let bytes = u64::from(width).div_ceil(8) * u64::from(height);
        ensure!(bits.len() as u64 == bytes, "it has {} bytes of {bytes}", bits.len());
        let bits = bits.to_vec();
        Ok(Self { width, height, bits })
    }
}

impl OriginDimensions for Bitmap {
    fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

impl DrawTarget for Bitmap {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(point, colour) in pixels {
            if let (Ok(x), Ok(y)) = (u32::try_from(point.x), u32::try_from(point.y)) {
                self.set(x, y, colour.is_on());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written_and_a_part_of_it_is_refused() {
        let mut frame = Bitmap::new(13, 3);
        for (x, y) in [(0, 0), (12, 2), (8, 1)] {
            frame.set(x, y, true);
        }
        let file = frame.to_pbm("full");
        assert_eq!(Bitmap::from_pbm(&file).unwrap(), frame);
        for length in 0..file.len() {
            assert!(Bitmap::from_pbm(&file[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_doubled_corner_is_smooth_and_a_square_stays_one() {
        let mut step = Bitmap::new(2, 2);
        step.set(0, 1, true);
        step.set(1, 0, true);
        let doubled = step.doubled();
        assert!(doubled.is_black(1, 1), "the corner between two black pixels is filled");
        assert!(!doubled.is_black(0, 0));
        let mut square = Bitmap::new(2, 2);
        (0..4).for_each(|i| square.set(i % 2, i / 2, true));
        let doubled = square.doubled();
        let black = (0..16).filter(|i| doubled.is_black(i % 4, i / 4)).count();
        assert_eq!(black, 12, "round at its four corners");
    }
}

//! Frames as they come on standard input: PBM files (P4) with a comment of one line.

use std::io::{self, BufRead, ErrorKind};

/// A frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Whether the whole panel should be refreshed, instead of only the pixels that change.
    pub full: bool,
    /// 8 pixels a byte, the leftmost in the highest bit, 1 is black; each row begins with a byte.
    bits: Vec<u8>,
}

impl Frame {
    /// The next frame, or `None` at the end of the input.
    ///
    /// # Errors
    /// What comes is no frame, or ends within one.
    pub fn read(input: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = || -> io::Result<String> {
            let mut line = String::new();
            input.read_line(&mut line)?;
            Ok(line.trim_end().to_owned())
        };
        let magic = line()?;
        if magic.is_empty() {
            return Ok(None);
        }
        let (comment, size) = (line()?, line()?);
        let size = size
            .split_once(' ')
            .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
        let (Some((width, height)), "P4") = (size, magic.as_str()) else {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "what comes on standard input is no frame",
            ));
        };
        let (width, height): (u16, u16) = (width, height);
        let mut bits = vec![0; usize::from(width.div_ceil(8)) * usize::from(height)];
        input.read_exact(&mut bits)?;
        Ok(Some(Self {
            width: width.into(),
            height: height.into(),
            full: comment == "# full",
            bits,
        }))
    }

    /// Its pixels in the panel's memory: 0 is black there, and a panel that is higher than wide in its memory is turned by 90
    /// degrees, so that text runs along its longer side.
    pub fn panel_memory(&self, width: u32, height: u32) -> Vec<u8> {
        let mut memory = vec![0xff; (width.div_ceil(8) * height) as usize];
        for y in 0..self.height {
            for x in 0..self.width {
                let bit = self.bits[(y * self.width.div_ceil(8) + x / 8) as usize] & (0x80 >> (x % 8));
                let (column, row) = if width < height { (width - 1 - y, x) } else { (x, y) };
                if bit != 0 {
                    memory[(row * width.div_ceil(8) + column / 8) as usize] &= !(0x80 >> (column % 8));
                }
            }
        }
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_each_other_and_a_part_of_one_is_an_error() {
        let file = b"P4\n# full\n9 2\nabcdP4\n# partial\n8 1\nx";
        let mut input = &file[..];
        let first = Frame::read(&mut input).unwrap().unwrap();
        assert_eq!(
            (first.width, first.height, first.full, &first.bits[..]),
            (9, 2, true, &b"abcd"[..])
        );
        assert!(!Frame::read(&mut input).unwrap().unwrap().full);
        assert_eq!(Frame::read(&mut input).unwrap(), None);
        assert!(Frame::read(&mut &file[..16]).is_err());
        assert!(Frame::read(&mut &b"GET / HTTP/1.1\n\n\n"[..]).is_err());
    }

    /// The other way to turn a picture is epd-waveshare's own.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_frame_lies_in_the_panels_memory_as_its_driver_draws() {
        use embedded_graphics_core::{Pixel, draw_target::DrawTarget, geometry::Point};
        use epd_waveshare::color::Color;
        use epd_waveshare::epd2in13_v2::{Display2in13, HEIGHT, WIDTH};
        use epd_waveshare::graphics::DisplayRotation;

        let is_black = |x: u32, y: u32| x * y % 7 == 3 || x == 5 || y == 121;
        let mut bits = vec![0; 32 * 122];
        let mut display = Display2in13::default();
        display.set_rotation(DisplayRotation::Rotate90);
        for (x, y) in (0..122).flat_map(|y| (0..250).map(move |x| (x, y))) {
            let colour = if is_black(x, y) { Color::Black } else { Color::White };
            display
                .draw_iter([Pixel(Point::new(x as i32, y as i32), colour)])
                .unwrap();
            if is_black(x, y) {
                bits[(y * 32 + x / 8) as usize] |= 0x80 >> (x % 8);
            }
        }
        let frame = Frame {
            width: 250,
            height: 122,
            full: true,
            bits,
        };
        let memory = frame.panel_memory(WIDTH, HEIGHT);
        // Of the last byte of a row, only two bits are pixels.
        let pixels = |memory: &[u8]| -> Vec<u8> {
            memory
                .iter()
                .enumerate()
                .map(|(i, byte)| if i % 16 == 15 { byte & 0xc0 } else { *byte })
                .collect()
        };
        assert!(pixels(&memory) == pixels(display.buffer()));
    }
}

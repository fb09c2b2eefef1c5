//! A frame as a PNG picture, of one bit a pixel.

use std::path::Path;

use anyhow::{Context, Result};

use super::Bitmap;
use crate::disk::durable;

/// Writes a frame into a PNG file, which is replaced at once: whoever reads it finds the frame before or this one, whole.
///
/// # Errors
/// The disk cannot be written.
pub fn write_png(path: &Path, frame: &Bitmap) -> Result<()> {
    durable::write_file(path, &png(frame)?)
}

fn png(frame: &Bitmap) -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, frame.width(), frame.height());
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let white_is_1: Vec<u8> = frame.bits().iter().map(|byte| !byte).collect();
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&white_is_1))
        .context("the picture cannot be encoded")?;
    Ok(file)
}

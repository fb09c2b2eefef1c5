//! The last frame, kept on disk: what a start after a power cut shows first.

use std::path::PathBuf;

use anyhow::Result;

use super::{Bitmap, Panel};
use crate::disk::durable;

/// The file of the last frame.
pub struct KeptFrame {
    path: PathBuf,
}

impl KeptFrame {
    /// The frame kept at `path`, where there need be none yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The kept frame, if there is one for that panel. It is whole: another file is no frame.
    pub fn read(&self, panel: Panel) -> Option<Bitmap> {
        let file = std::fs::read(&self.path).ok()?;
        let frame = Bitmap::from_pbm(&file).ok()?;
        ((frame.width(), frame.height()) == panel.size()).then_some(frame)
    }

    /// Keeps a frame, in place of the one before.
    ///
    /// # Errors
    /// The disk cannot be written.
    pub fn write(&self, frame: &Bitmap) -> Result<()> {
        let _made = durable::make_parents(&self.path)?;
        durable::write_file(&self.path, &frame.to_pbm("mlx-gpt"))
    }
}

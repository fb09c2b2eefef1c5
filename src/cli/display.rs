//! The options of where a text is shown as a frame.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::frame::{Display, Panel, Target};

/// The options of a [`Display`].
#[derive(Args)]
pub struct DisplayOptions {
    /// Show the text as a frame of an e-ink panel: on the panel itself, by the device of its bus, in a PNG file, or on the
    /// terminal
    #[arg(long, value_name = "DEVICE|png:FILE|term")]
    pub display: Option<Target>,
    /// The panel's diagonal in inches
    #[arg(long, value_enum, value_name = "INCHES", default_value = "2.13")]
    panel: Panel,
    /// The program that drives the panel: frames come on its standard input [default: mlx-gpt-epd beside this program]
    #[arg(long, value_name = "PROGRAM")]
    driver: Option<PathBuf>,
}

impl DisplayOptions {
    /// Opens the display that they ask for, by default the terminal.
    ///
    /// # Errors
    /// As [`Display::open`].
    pub fn open(&self) -> Result<Display> {
        let target = self.display.as_ref().unwrap_or(&Target::Terminal);
        Display::open(target, self.panel, self.driver.clone())
    }
}

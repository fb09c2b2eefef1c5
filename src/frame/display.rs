//! Where frames are shown.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};

use super::braille::braille;
use super::driver::{Driver, Refresh};
use super::picture::write_png;
use super::{Bitmap, Panel};
use crate::terminal::console;
use crate::terminal::layout::stdout_columns;

/// Every so many frames a panel is refreshed as a whole, which is slow and flickers; the frames between change only pixels, and
/// leave shadows.
const FRAMES_PER_FULL_REFRESH: u64 = 10;

/// Where to show frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A PNG file, replaced by each frame.
    Png(PathBuf),
    /// Standard output.
    Terminal,
    /// A panel, by the device of the bus that it is on, such as `/dev/spidev0.0`.
    Device(PathBuf),
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix("png:") {
            Some(file) if !file.is_empty() => Ok(Self::Png(file.into())),
            None if text == "term" => Ok(Self::Terminal),
            None if text.starts_with("/dev/") => Ok(Self::Device(text.into())),
            _ => bail!("say term, png:FILE, or the device of the panel's bus, such as /dev/spidev0.0"),
        }
    }
}

/// What frames are shown on.
pub struct Display {
    panel: Panel,
    shown: u64,
    output: Output,
}

enum Output {
    Png(PathBuf),
    Terminal,
    Driver(Driver),
}

impl Display {
    /// Opens what frames of that panel's size are shown on. For a device, `driver` is the program that drives it; by default the
    /// one beside this program.
    ///
    /// # Errors
    /// The driver cannot be started.
    pub fn open(target: &Target, panel: Panel, driver: Option<PathBuf>) -> Result<Self> {
        let output = match target {
            Target::Png(file) => Output::Png(file.clone()),
            Target::Terminal => Output::Terminal,
            Target::Device(device) => Output::Driver(Driver::start(driver, panel, device)?),
        };
        Ok(Self {
            panel,
            shown: 0,
            output,
        })
    }

    /// The panel that frames are drawn for.
    pub fn panel(&self) -> Panel {
        self.panel
    }

    /// Whether it is a panel, which keeps what is left of a frame when the power goes.
    pub fn is_device(&self) -> bool {
        matches!(self.output, Output::Driver(_))
    }

    /// Shows a frame; returns when it is there.
    ///
    /// # Errors
    /// The file cannot be written, or the driver says why it cannot show it.
    pub fn show(&mut self, frame: &Bitmap) -> Result<()> {
        let refresh = if self.shown.is_multiple_of(FRAMES_PER_FULL_REFRESH) {
            Refresh::Full
        } else {
            Refresh::Partial
        };
        self.shown += 1;
        match &mut self.output {
            Output::Png(file) => write_png(file, frame),
            Output::Terminal => console::print(braille(frame, stdout_columns())),
            Output::Driver(driver) => driver.show(frame, refresh),
        }
    }
}

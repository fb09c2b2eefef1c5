//! The panels and their sizes.

use clap::ValueEnum;

/// An e-ink panel, by its diagonal in inches. Text runs along its longer side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Panel {
    /// 2.13 inches, 250 × 122 pixels
    #[value(name = "2.13")]
    Inch2_13,
    /// 2.9 inches, 296 × 128 pixels
    #[value(name = "2.9")]
    Inch2_9,
    /// 4.2 inches, 400 × 300 pixels
    #[value(name = "4.2")]
    Inch4_2,
    /// 7.5 inches, 800 × 480 pixels
    #[value(name = "7.5")]
    Inch7_5,
}

impl Panel {
    /// Width and height in pixels.
    pub fn size(self) -> (u32, u32) {
        match self {
            Self::Inch2_13 => (250, 122),
            Self::Inch2_9 => (296, 128),
            Self::Inch4_2 => (400, 300),
            Self::Inch7_5 => (800, 480),
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inch2_13 => "2.13",
            Self::Inch2_9 => "2.9",
            Self::Inch4_2 => "4.2",
            Self::Inch7_5 => "7.5",
        }
    }
}

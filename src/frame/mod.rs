//! Text on small one-bit panels, such as e-ink: layout, and where a frame is shown.
//!
//! A frame is drawn here, whole, and knows no device: a [`Display`] writes it into a picture, prints it on a terminal, or passes
//! it to a driver, which is a program of its own.
//!
//! | file | contents |
//! |---|---|
//! | `bitmap.rs` | a picture of black and white pixels; PBM |
//! | `panel.rs` | the panels and their sizes |
//! | `glyphs.rs` | what the fonts can draw, and what stands for the rest |
//! | `layout.rs`, `draw.rs` | text to lines, lines to a frame |
//! | `picture.rs`, `braille.rs` | a frame as PNG, and for a terminal |
//! | `display.rs`, `driver.rs` | where frames are shown; the process that drives a panel |
//! | `kept.rs` | the last frame, kept on disk |
//!
//! ```
//! use mlx_gpt::frame::{Panel, draw};
//!
//! let frame = draw("Now is the winter of our discontent", Panel::Inch2_13);
//! assert_eq!((frame.width(), frame.height()), (250, 122));
//! ```

mod bitmap;
mod braille;
mod display;
mod draw;
mod driver;
mod glyphs;
mod kept;
mod layout;
mod panel;
mod picture;

pub use bitmap::Bitmap;
pub use display::{Display, Target};
pub use draw::draw;
pub use glyphs::replace_missing;
pub use kept::KeptFrame;
pub use panel::Panel;

//! Numbers of bytes, for people.

use std::fmt::{Display, Formatter, Result};

/// A number of bytes in the unit that keeps it short, such as `44.96 MiB`.
///
/// ```
/// use mlx_gpt::disk::bytes::Bytes;
///
/// assert_eq!(Bytes(650).to_string(), "650 B");
/// assert_eq!(Bytes(47_143_977).to_string(), "44.96 MiB");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut number = self.0 as f64;
        let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter();
        let mut unit = units.next().unwrap_or_default();
        while number >= 1024.0
            && let Some(larger) = units.next()
        {
            number /= 1024.0;
            unit = larger;
        }
        match unit {
            "B" => write!(f, "{} B", self.0),
            _ => write!(f, "{number:.2} {unit}"),
        }
    }
}

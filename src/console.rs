//! Results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::Result;

use crate::visible::visible;

/// Writes a result to standard output, at once.
///
/// # Errors
/// The reader went away, or the disk behind it is full.
pub fn print(text: impl Display) -> Result<()> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(())
}

/// Says a line on standard error. That nobody listens any more is no reason to stop a run.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", visible(&line.to_string()));
}

/// How the user calls this program, for commands that it proposes.
pub fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "mlx-gpt".into())
}

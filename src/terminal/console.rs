//! Results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anyhow::Result;

pub use super::shell::{program, quoted};
use crate::terminal::escape::visible;
use crate::terminal::layout::{stderr_columns, stdout_columns, wrap};

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

/// A line of a result, on a terminal in lines that fit, of which all but the first begin with `indent` blanks. In a file
/// or a pipe it stays one line.
pub fn fitting(line: &str, indent: usize) -> String {
    match stdout_columns() {
        Some(columns) => wrap(line, columns, indent),
        None => line.to_owned(),
    }
}

/// Says something on standard error, on a terminal in lines that fit. That nobody listens any more is no reason to stop
/// a run.
pub fn say(text: impl Display) {
    let text = text.to_string();
    match stderr_columns() {
        Some(columns) => {
            for line in text.lines() {
                say_unbroken(wrap(&visible(line), columns, indent(line)));
            }
        }
        None => say_unbroken(text),
    }
}

/// Where a line goes on that does not fit: after a label, as in `corpus   …`, below what the label is of.
fn indent(line: &str) -> usize {
    const LABEL: usize = 9;
    let label = line.split(' ').next().unwrap_or_default().len();
    let blanks = line[label..].len() - line[label..].trim_start_matches(' ').len();
    if label + blanks == LABEL { LABEL } else { 2 }
}

/// Says a line on standard error as it is: an error, or a command that is to be copied.
pub fn say_unbroken(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", visible(&line.to_string()));
}

/// Says a line from beside the thread that draws progress: its bar, if it is drawn just now, is drawn again below.
pub fn say_over_bar(line: impl Display) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[2K");
    }
    say(line);
}

/// Asks at the terminal: whether the answer begins with y. None where nobody can be asked.
///
/// # Errors
/// The terminal is gone.
pub fn confirm(question: impl Display) -> Result<Option<bool>> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Ok(None);
    }
    print(format_args!("{question} [y/N] "))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(Some(answer.trim_start().starts_with(['y', 'Y'])))
}

/// Says that something went wrong which is no reason to stop.
pub fn warn(line: impl Display) {
    say(format_args!("warning  {line}"));
}

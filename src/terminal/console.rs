//! Prints results on standard output and everything else on standard error.

use std::fmt::{self, Display, Formatter};
use std::io::{self, ErrorKind, IsTerminal, Write};

use anyhow::Result;

pub use super::shell::{program, quoted};
use crate::terminal::escape::visible;
use crate::terminal::layout::{stderr_columns, stdout_columns, wrap};

/// The reader of standard output closed it, and wants no more.
#[derive(Debug)]
pub struct OutputClosed;

impl Display for OutputClosed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for OutputClosed {}

/// Writes a result to standard output, at once.
///
/// # Errors
/// [`OutputClosed`], or a file on a full disk.
pub fn print(text: impl Display) -> Result<()> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => OutputClosed.into(),
            _ => error.into(),
        })
}

/// A line of a result, wrapped on a terminal, with `indent` blanks before all lines but the first. For a file or a pipe it
/// stays one line.
pub fn fitting(line: &str, indent: usize) -> String {
    match stdout_columns() {
        Some(columns) => wrap(line, columns, indent),
        None => line.to_owned(),
    }
}

/// Prints a message on standard error, wrapped on a terminal. Errors are ignored: a closed stderr must not stop a run.
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

/// Indentation of the wrapped lines of a message: below its text if it begins with a label, as in `corpus   …`.
fn indent(line: &str) -> usize {
    const LABEL: usize = 9;
    let label = line.split(' ').next().unwrap_or_default().len();
    let blanks = line[label..].len() - line[label..].trim_start_matches(' ').len();
    if label + blanks == LABEL { LABEL } else { 2 }
}

/// Prints a line on standard error without wrapping it: an error, or a command to copy.
pub fn say_unbroken(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", visible(&line.to_string()));
}

/// Prints a line from another thread than the progress bar's: clears the bar's line, which is redrawn below.
pub fn say_over_bar(line: impl Display) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[2K");
    }
    say(line);
}

/// Asks a yes/no question at the terminal; `None` if standard input or output is not a terminal.
///
/// # Errors
/// The terminal cannot be read or written.
pub fn confirm(question: impl Display) -> Result<Option<bool>> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Ok(None);
    }
    print(format_args!("{question} [y/N] "))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(Some(answer.trim_start().starts_with(['y', 'Y'])))
}

/// Prints a warning.
pub fn warn(line: impl Display) {
    say(format_args!("warning  {line}"));
}

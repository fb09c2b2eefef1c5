//! Reports an error in one line on standard error.

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use crate::disk::hint::disk_hint;
use crate::error::line;
use crate::terminal::console::say_unbroken;

/// Prints the error in one line, and returns the exit code. A closed pipe is no failure: its reader wanted no more.
pub fn report_error(error: &anyhow::Error) -> ExitCode {
    let closed_pipe = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == ErrorKind::BrokenPipe);
    if closed_pipe {
        return ExitCode::SUCCESS;
    }
    let line = line(error);
    let helps = disk_hint(error).filter(|helps| !line.contains(helps));
    let helps = helps.map_or(String::new(), |helps| format!("; {helps}"));
    say_unbroken(format_args!("error: {line}{helps}"));
    ExitCode::FAILURE
}

//! Failures, as one line on standard error.

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use crate::error::line;
use crate::terminal::console::say_unbroken;

/// The exit code of an error, said in one line. A reader that closed the pipe wanted no more: that is no failure.
pub fn failure(error: &anyhow::Error) -> ExitCode {
    let closed_pipe = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == ErrorKind::BrokenPipe);
    if closed_pipe {
        return ExitCode::SUCCESS;
    }
    say_unbroken(format_args!("error: {}", line(error)));
    ExitCode::FAILURE
}

//! Reports an error in one line on standard error.

use std::process::ExitCode;

use crate::disk::hint::disk_hint;
use crate::error::line;
use crate::terminal::console::{OutputClosed, say_unbroken};

/// Prints the error in one line, and returns the exit code. That standard output was closed is no failure; that any other pipe
/// or connection was, is one.
pub fn report_error(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(|cause| cause.is::<OutputClosed>()) {
        return ExitCode::SUCCESS;
    }
    let line = line(error);
    let helps = disk_hint(error).filter(|helps| !line.contains(helps));
    let helps = helps.map_or(String::new(), |helps| format!("; {helps}"));
    say_unbroken(format_args!("error: {line}{helps}"));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Error;

    use super::*;

    #[test]
    fn a_closed_output_is_no_failure_and_a_broken_connection_is_one() {
        let code = |error: Error| format!("{:?}", report_error(&error.context("while it was written")));
        assert_eq!(code(OutputClosed.into()), format!("{:?}", ExitCode::SUCCESS));
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(code(broken.into()), format!("{:?}", ExitCode::FAILURE));
    }
}

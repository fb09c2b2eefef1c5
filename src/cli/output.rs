//! Results on standard output, failures as one line on standard error.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Result;

/// Writes to standard output at once; a reader that went away is an error, not a panic.
pub fn write(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// The exit code of an error, said in one line. A reader that closed the pipe wanted no more: that is no failure.
pub fn failure(error: &anyhow::Error) -> ExitCode {
    let closed_pipe = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == ErrorKind::BrokenPipe);
    if closed_pipe {
        return ExitCode::SUCCESS;
    }
    let line = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
    eprintln!("error: {line}");
    ExitCode::FAILURE
}

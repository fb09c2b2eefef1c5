//! Failures, as one line on standard error.

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use mlx_rs::error::Exception;

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
    let mut line = String::new();
    for cause in error.chain().map(describe) {
        // Some libraries repeat their cause in their own words.
        if !line.contains(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause;
        }
    }
    say_unbroken(format_args!(
        "error: {}",
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    ));
    ExitCode::FAILURE
}

/// An error's own words. MLX adds where in its sources it stood, which helps no user.
fn describe(cause: &(dyn std::error::Error + 'static)) -> String {
    match cause.downcast_ref::<Exception>() {
        Some(exception) => exception.what().split(" at /").next().unwrap_or_default().to_owned(),
        None => cause.to_string(),
    }
}

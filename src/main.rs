//! Clap to library calls, nothing else.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    mlx_gpt::cli::main()
}

//! Clap to library calls, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    mlx_gpt::cli::main()
}

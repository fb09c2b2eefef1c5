//! What is linked in place of MLX's CPU operations: that each replacement is in effect, that it can be switched off, and that
//! the compiled functions are this user's own. Nothing of it exists where MLX is linked as it comes, as on a Mac.
#![cfg(mlx_kernels)]

#[path = "../common/mod.rs"]
mod common;

mod blas;
mod cache;
mod compiler;
mod missing;
mod switch;

use std::path::Path;
use std::process::Command;

use common::mlx_gpt;

/// `doctor` on the CPU device.
fn doctor(folder: &Path) -> Command {
    let mut command = mlx_gpt(folder);
    command.args(["doctor", "--device", "cpu"]);
    command
}

/// The line of `doctor` that begins with `what`.
fn line<'a>(said: &'a str, what: &str) -> &'a str {
    said.lines()
        .find(|line| line.starts_with(what))
        .unwrap_or_else(|| panic!("no line {what} in {said}"))
}

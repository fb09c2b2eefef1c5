//! What is linked in place of MLX's CPU operations: that each replacement is in effect, that it can be switched off, and that
//! the compiled functions are this user's own. Nothing of it exists where MLX is linked as it comes, as on a Mac.
#![cfg(mlx_kernels)]

#[path = "../common/mod.rs"]
mod common;

mod blas;
mod cache;
mod compiler;
mod missing;
mod packed;
mod switch;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{mlx_gpt, succeed};

/// `doctor` on the CPU device.
fn doctor(folder: &Path) -> Command {
    let mut command = mlx_gpt(folder);
    command.args(["doctor", "--device", "cpu"]);
    command
}

/// A shared library of that source in C.
fn library(folder: &Path, source: &str) -> PathBuf {
    let (file, library) = (folder.join("library.c"), folder.join("library.so"));
    std::fs::write(&file, source).unwrap();
    let mut compiler = Command::new("cc");
    succeed(compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &file]));
    library
}

/// The line of `doctor` that begins with `what`.
fn line<'a>(said: &'a str, what: &str) -> &'a str {
    said.lines()
        .find(|line| line.starts_with(what))
        .unwrap_or_else(|| panic!("no line {what} in {said}"))
}

//! Where tests find the program, their files and the device, here and in a bundle that `make gpu-bundle` packs for another
//! machine: `scripts/gpu.sh` says there what the build says here.

use std::env;
use std::path::{Path, PathBuf};

use mlx_gpt::config::Device;

/// The device that tests compute on: the CPU, unless `MLX_GPT_TEST_DEVICE` is `gpu`.
pub fn device() -> Device {
    match env::var("MLX_GPT_TEST_DEVICE").as_deref() {
        Ok("gpu") => Device::Gpu,
        Ok("cpu") | Err(_) => Device::Cpu,
        Ok(other) => panic!("MLX_GPT_TEST_DEVICE={other}: cpu or gpu"),
    }
}

/// The program, or one that passes options on to it.
pub fn program() -> PathBuf {
    env::var_os("MLX_GPT_TEST_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_mlx-gpt").into(), PathBuf::from)
}

/// A file of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    env::var_os("MLX_GPT_TEST_FIXTURES")
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
            PathBuf::from,
        )
        .join(name)
}

/// A folder to make folders in.
pub fn temporary() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    if built.is_dir() { built } else { env::temp_dir() }
}

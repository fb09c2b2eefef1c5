//! MLX's devices, memory, threads and compiled functions: what a model is computed on, and nothing of the model.

pub mod arithmetic;
pub mod compiled;
pub mod device;
pub mod kernels;
pub mod memory;
pub mod operations;
mod raw;
pub mod recompute;
pub mod workers;

pub use raw::{GpuBackend, gpu_backend};

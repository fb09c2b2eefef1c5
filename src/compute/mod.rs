//! MLX's devices, memory, threads and compiled functions; nothing here knows of models' layers.

pub mod arithmetic;
pub mod compiled;
pub mod device;
pub mod kernels;
pub mod memory;
pub mod operations;
mod raw;
pub mod workers;

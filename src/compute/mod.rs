//! MLX's devices, memory, threads and compiled functions; nothing here knows of models' layers.

pub mod compiled;
pub mod device;
pub mod memory;
pub mod workers;

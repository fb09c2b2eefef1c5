//! MLX's devices, memory, threads and compiled functions: what a model is computed on. Of the model itself, only
//! [`memory`] knows the sizes, to estimate what a step or a cache takes.
//!
//! ```
//! use mlx_gpt::compute::memory;
//! use mlx_gpt::config::{Device, Preset};
//!
//! println!("MLX computes on the {}", Device::current()?);
//! let cache = memory::kv_cache_bytes(&Preset::Gpt2.model_config(50257)); // bytes of GPT-2's keys and values
//! assert!(cache < memory::total_memory() as f64);
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod compiled;
pub mod device;
pub mod kernels;
mod limits;
pub mod mapped;
pub mod memory;
pub mod numerics;
pub mod operations;
pub mod ranks;
mod raw;
pub mod recompute;
pub mod workers;

#[cfg(test)]
pub(crate) use raw::graph as raw_graph;
pub use raw::{GpuBackend, gpu_backend};

//! The configuration of models and runs: plain structs and named presets.
//!
//! ```
//! use mlx_gpt::config::{Device, Preset, TrainConfig};
//!
//! let config = TrainConfig {
//!     layers: 2,
//!     steps: 100,
//!     ..Preset::Nano.train_config(Device::Cpu)
//! };
//! config.validate()?;
//! assert_eq!(config.tokens_per_step(), 12 * 64);
//! # Ok::<(), anyhow::Error>(())
//! ```

mod changes;
mod chat;
mod components;
mod device;
mod gpt3;
mod model;
mod objective;
mod overrides;
mod preset;
mod removed;
mod special;
mod task;
mod train;
mod validate;

pub use crate::disk::floats::Precision;
pub use components::{Activation, Components, NormKind, Position};
pub use device::Device;
pub use model::{Architecture, BosEos, LINEAR_LAYERS, Lora, ModelConfig, Quantization};
pub use objective::{Objective, Rl};
pub use overrides::{ConfigOverrides, StartCheckpoint, display_value};
pub use preset::Preset;
pub use removed::BatchRamp;
pub use special::SpecialTokens;
pub use task::Task;
pub use train::{OnNan, Optimizer, Schedule, TrainConfig, Windows, default_threads};

/// The name of the built-in corpus in a configuration. A file of that name is `./builtin:shakespeare`.
pub const DEFAULT_CORPUS: &str = "builtin:shakespeare";

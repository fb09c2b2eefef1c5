//! Benchmarks, comparison of recipes, numerical accuracy, and checks of the environment.
//!
//! ```
//! use mlx_gpt::measure::statistics::{mean, spread};
//!
//! let losses = [1.92, 1.93, 1.91];
//! assert!((mean(losses) - 1.92).abs() < 1e-9 && spread(losses) < 0.03);
//! ```

pub mod accuracy;
pub mod bench;
pub mod budget;
pub mod contest;
pub mod doctor;
pub mod statistics;

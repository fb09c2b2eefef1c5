//! How fast and how good: benchmarks of this machine, recipes against each other, what the machine has and lacks.
//!
//! ```
//! use mlx_gpt::measure::statistics::{mean, spread};
//!
//! let losses = [1.92, 1.93, 1.91];
//! assert!((mean(losses) - 1.92).abs() < 1e-9 && spread(losses) < 0.03);
//! ```

pub mod accuracy;
pub mod bench;
pub mod contest;
pub mod doctor;
pub mod statistics;

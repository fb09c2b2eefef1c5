//! Numerical accuracy of a device against a reference: the same small models on this device and on the CPU with MLX's own
//! operations, compared number by number.
//!
//! | file | contents |
//! |---|---|
//! | `probe.rs` | the test computations: logits, gradients, a short training, text, dropout masks |
//! | `tolerance.rs` | how far two correct devices may differ, from the formats and the lengths of the sums |
//! | `reference.rs` | the reference's numbers, which another process computes |
//! | `comparison.rs` | the largest difference of each quantity, with its tolerance |

mod comparison;
mod probe;
pub mod reference;
mod tolerance;

pub use comparison::{Comparison, compare};
pub use probe::{Answer, Answers, Key, Quantity, answers};
pub use tolerance::Tolerance;

//! Whether a device computes what it should: the same small models on this device and, as the reference, on the CPU by
//! MLX's own operations, compared number by number.
//!
//! | file | what it is |
//! |---|---|
//! | `probe.rs` | what is computed: logits, gradients, a short training, text, dropout masks |
//! | `tolerance.rs` | how far two correct devices may differ, from the formats and the lengths of the sums |
//! | `reference.rs` | the reference's numbers, which another process computes |
//! | `comparison.rs` | the largest difference of each, beside what is allowed |

mod comparison;
mod probe;
pub mod reference;
mod tolerance;

pub use comparison::{Row, compare};
pub use probe::{Answer, Answers, Key, Quantity, answers};
pub use tolerance::Tolerance;

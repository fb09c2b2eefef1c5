//! How fast and how good: benchmarks of this machine, recipes against each other, what the machine has and lacks.

pub mod accuracy;
pub mod bench;
pub mod contest;
pub mod doctor;
pub mod statistics;

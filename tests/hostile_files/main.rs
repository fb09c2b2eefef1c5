//! Files from elsewhere: whatever bytes they have, reading them ends, in a result or in an error that says which file,
//! and takes no more memory than they warrant.
//!
//! `make fuzz` does this with as many inputs as FUZZ_CASES says for each parser; what it finds is kept in `tests/corpus`,
//! which every run replays.

mod checkpoints;
#[path = "../common/mod.rs"]
mod common;
mod data;
mod harness;
mod memory;
mod mutation;
mod tokenizers;

use std::hint::black_box;

/// Arithmetic on what files say must not wrap around silently in the tests that prove it does not.
#[test]
#[should_panic(expected = "attempt to add with overflow")]
fn overflow_is_checked_in_tests() {
    // A backtrace that is printed reads the program's debug information, which stays in memory.
    let _alone = harness::alone();
    let _ = black_box(black_box(u64::MAX) + black_box(1));
}

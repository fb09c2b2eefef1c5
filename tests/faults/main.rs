//! What becomes of files when something fails: processes are killed, disks are full or break, two commands write at once.
//!
//! `make faults` is the long version: `KILLS` says how many processes are killed while they train, `FAULTS` at how many
//! calls of each command each fault comes (all of them where it is large), `SEED` which.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod commands;
mod injector;
mod kills;
mod pairs;
mod repeats;
mod tree;

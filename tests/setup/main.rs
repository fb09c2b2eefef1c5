//! `scripts/setup.sh`, with compilers, pip, Cargo and what says which machine it is replaced by the programs in this folder: what it
//! does is the script's own, and what it fetches and compiles is tiny.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
mod linux;
mod mac;
mod stage;

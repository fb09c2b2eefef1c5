//! Checkpoints: their formats, those of other programs, and what is loaded from them.

#[path = "../common/mod.rs"]
mod common;

mod export;
mod finetune;
mod formats;
mod gguf;
mod hub;
mod import;
mod library;
mod mapped;
mod old_runs;
mod quantized;

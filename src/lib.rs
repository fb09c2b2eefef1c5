//! GPT-2 from scratch on Apple's MLX, in the order that the data flows:
//!
//! ```text
//! text ─ data::corpus ─ tokenizer ─ data::batches ─ model ─ train (loss, gradients, optimizer) ─ checkpoint ─ generate
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | plain structs with named presets, validated once |
//! | [`device`] | which of MLX's devices computes |
//! | [`data`] | text to splits, splits to batches; no MLX |
//! | [`tokenizer`] | text to token ids and back; no MLX |
//! | [`model`] | GPT-2 on MLX arrays: never sees text, paths or the command line |
//! | [`checkpoint`] | runs and checkpoints on disk, in Hugging Face's names and layout |
//! | [`generate`](mod@generate) | sampling, the token loop |
//! | [`train`](mod@train) | the loop, the compiled step, optimizer, schedule, evaluation, metrics |
//! | [`doctor`] | what this machine has and lacks |
//! | [`cli`] | the command line: options to library calls, nothing else |
//!
//! A module uses those above it in this list, never those below: the training loop comes late because it saves
//! checkpoints and samples as it goes.

pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
pub mod doctor;
pub mod generate;
pub mod model;
pub mod tokenizer;
pub mod train;

//! GPT-2 from scratch on Apple's MLX, in the order that the data flows:
//!
//! ```text
//! text ─ data::corpus ─ tokenizer ─ data::batches ─ model ─ train (loss, gradients, optimizer) ─ checkpoint ─ generate
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`device`] | which of MLX's devices computes |
//! | [`config`] | plain structs with named presets, validated once |
//! | `visible`, `console`, `files`, `durable`, [`hash`], `numbers`, `plot`, `signals`, `team` | text that steers no terminal; what is said; reading what others made; files that are complete or not there; SHA-256; numbers in files; curves as pictures; Ctrl-C; threads that compute side by side |
//! | [`memory`] | what work takes of it, before it is begun |
//! | [`tokenizer`] | text to token ids and back; no MLX |
//! | [`data`] | text to splits, splits to batches; no MLX |
//! | [`model`] | GPT-2 on MLX arrays: never sees text, paths or the command line |
//! | [`generate`](mod@generate) | sampling, the token loop |
//! | [`checkpoint`] | runs and checkpoints on disk, in Hugging Face's names and layout |
//! | [`evaluate`] | exact losses of texts, choices among endings |
//! | [`export`] | checkpoints for other programs: `transformers`, llama.cpp, `mlx-lm` |
//! | [`hub`] | models from Hugging Face's hub |
//! | [`train`](mod@train) | the loop, the compiled step, optimizer, schedule, metrics |
//! | [`bench`] | how fast all that is on this machine, against what the machine can do |
//! | [`contest`] | recipes against each other, trained in memory: sweeps and speedruns |
//! | [`lessons`] | the series, day by day |
//! | [`doctor`] | what this machine has and lacks |
//! | [`cli`] | the command line: options to library calls, nothing else |
//!
//! A module uses those above it in this list, never those below: the training loop comes late because it saves
//! checkpoints, evaluates and samples as it goes.

#![deny(unsafe_code)]

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod config;
mod console;
pub mod contest;
pub mod data;
pub mod device;
pub mod doctor;
mod durable;
pub mod evaluate;
pub mod export;
mod files;
pub mod generate;
pub mod hash;
pub mod hub;
pub mod lessons;
pub mod memory;
pub mod model;
mod numbers;
mod plot;
mod signals;
mod team;
pub mod tokenizer;
pub mod train;
mod visible;

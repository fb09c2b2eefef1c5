//! GPT-2 from scratch on Apple's MLX, in the order that the data flows:
//!
//! ```text
//! text ─ data::corpus ─ tokenizer ─ data::batches ─ model ─ train (loss, gradients, optimizer) ─ checkpoint ─ generate
//! ```
//!
//! | module | contents |
//! |---|---|
//! | [`disk`] | atomic writes, bounded reads of untrusted files, hashes, number formats |
//! | `terminal` | results and messages, escaped control characters, progress, plots |
//! | [`frame`] | text on small one-bit panels: layout, fonts, pictures, the driver's process; no MLX |
//! | [`config`] | configurations of models and runs: plain structs, presets, validation |
//! | [`compute`] | MLX's devices, memory, threads and compiled functions |
//! | [`tokenizer`] | text to token ids and back; no MLX |
//! | [`data`] | text to splits, splits to batches; no MLX |
//! | [`model`] | GPT-2 on MLX arrays: never sees text, paths or the command line |
//! | [`generate`](mod@generate) | sampling, the token loop |
//! | [`checkpoint`] | runs and checkpoints on disk; the formats of other programs; models from Hugging Face's hub |
//! | [`evaluate`] | the exact loss on a text, HellaSwag accuracy |
//! | [`train`](mod@train) | the loop, the compiled step, optimizers, schedules, metrics |
//! | [`measure`] | benchmarks, comparisons of training recipes, numerical accuracy, checks of the machine |
//! | [`lessons`] | what runs the days of the course, keeps their results and draws their pictures |
//! | [`course`] | the ten-day course: a program a day |
//! | [`studio`] | the server of completions and of the pages that show runs and models |
//! | [`cli`] | the command line |
//!
//! A module uses only modules above it in this list: the training loop comes late because it saves checkpoints,
//! evaluates and samples. `error.rs`, beside them, has [`Error`], which any of them may return.
//!
//! Most programs need one type, [`LanguageModel`]:
//!
//! ```no_run
//! use mlx_gpt::{CompletionOptions, LanguageModel};
//!
//! let model = LanguageModel::load("runs/shakespeare-nano-20260101-120000")?;
//! println!("{}", model.complete("ROMEO:", &CompletionOptions::default())?.text);
//! # Ok::<(), mlx_gpt::Error>(())
//! ```

#![deny(unsafe_code)]

pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod compute;
pub mod config;
#[cfg(feature = "lessons")]
pub mod course;
pub mod data;
pub mod disk;
mod error;
pub mod evaluate;
#[cfg(feature = "cli")]
pub mod frame;
pub mod generate;
#[cfg(feature = "lessons")]
pub mod lessons;
#[cfg(feature = "cli")]
pub mod measure;
pub mod model;
#[cfg(feature = "studio")]
pub mod studio;
mod terminal;
pub mod tokenizer;
pub mod train;

pub use error::{Error, ErrorKind, Result};
pub use generate::{Completion, CompletionOptions, FinishReason, LanguageModel, Token, TokenStream};
pub use tokenizer::Tokenizer;

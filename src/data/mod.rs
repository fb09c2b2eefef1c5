//! Training data, without MLX: a text is split for training and validation ([`corpus`]) or written as token shards
//! ([`prepare`], [`manifest`]); these, or token files of other programs, are read as tokens ([`dataset`]), which are cut into
//! training batches ([`batches`], [`passes`]) and evaluation windows ([`windows`]). Other data than text, such as problems that are made
//! on the fly ([`tasks`]), conversations ([`conversations`]) or pairs of answers ([`preferences`]), is another source of the same
//! batches ([`source`]).
//!
//! ```
//! use mlx_gpt::data::batches::{Batch, row_starts, step_rng};
//! use mlx_gpt::data::tokens::Tokens;
//!
//! let tokens = Tokens::Memory((0..100).collect());
//! let starts = row_starts(&mut step_rng(1337, 0), 2, tokens.len(), 8); // seed, step; rows, tokens, context
//! let batch = Batch::gather(&tokens, &starts, 8);
//! assert_eq!(batch.inputs.len(), 2 * 8);
//! assert_eq!(batch.targets[0], batch.inputs[1]);
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod batches;
pub mod conversations;
pub mod corpus;
pub mod dataset;
pub mod manifest;
pub mod passes;
mod pickle;
pub mod preferences;
pub mod prepare;
pub mod source;
pub mod tasks;
mod text_files;
mod text_finder;
pub mod token_files;
pub mod token_folder;
pub mod tokens;
pub mod windows;

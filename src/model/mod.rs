//! GPT-2, from small to large: [`linear`], [`norm`], [`embeddings`], [`attention`], [`mlp`], [`block`], [`gpt`]; what newer
//! components add: [`ngrams`], [`convolution`]; and the simpler models of the lessons: [`bigram`], [`averaging`], [`shallow`].
//!
//! A model is a [`ModelConfig`](crate::config::ModelConfig) and a set of named arrays ([`Parameters`]). Layers are plain
//! structs of arrays taken from that set by GPT-2's own names, and a forward pass is a pure function of them, which is
//! what MLX's `value_and_grad` and `compile` want.
//!
//! Errors of forward passes and of caches are MLX's: shapes that do not fit, out of memory, a failed device.
//!
//! `// ANCHOR: name` and `// ANCHOR_END: name` enclose the lines that the book's chapters include.
//!
//! Shapes in the comments: B rows of a batch, T tokens of a row, C channels (`embd`), H heads of queries, K heads of keys
//! and values, D = C / H the head size, V the vocabulary size.
//!
//! ```
//! use mlx_gpt::config::{ModelConfig, Preset};
//! use mlx_gpt::model::{Model, init::initialize};
//! use mlx_rs::Array;
//!
//! let config = ModelConfig { layers: 1, embd: 16, heads: 2, ..Preset::Nano.model_config(65) };
//! let model = Model::new(&config, &initialize(&config, 1337)?)?;
//! let ids = Array::from_slice(&[1, 2, 3], &[1, 3]); // [B, T]
//! assert_eq!(model.forward(&ids, None)?.shape(), [1, 3, 65]); // [B, T, V]
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod any;
pub mod attention;
pub mod averaging;
pub mod bigram;
pub mod block;
pub mod convolution;
pub mod dropout;
pub mod embeddings;
pub mod gpt;
pub mod hooks;
pub mod init;
pub mod kv_cache;
pub mod linear;
pub mod loss;
pub mod mlp;
pub mod ngrams;
pub mod norm;
pub mod parameters;
pub mod recomputed;
pub mod shallow;
pub mod vocabulary;

pub use any::Model;
pub use gpt::Gpt;
pub use parameters::Parameters;

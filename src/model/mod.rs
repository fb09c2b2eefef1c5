//! GPT-2, from small to large: [`linear`], [`norm`], [`embeddings`], [`attention`], [`mlp`], [`block`], [`gpt`]; and what comes before it in
//! the lessons: [`bigram`], [`averaging`], [`shallow`].
//!
//! A model is a [`ModelConfig`](crate::config::ModelConfig) and a set of named arrays ([`Parameters`]). Layers are plain
//! structs of arrays taken from that set by GPT-2's own names, and a forward pass is a pure function of them, which is
//! what MLX's `value_and_grad` and `compile` want.
//!
//! Shapes in the comments: B rows of a batch, T tokens of a row, C channels (`embd`), H heads, K of them with
//! keys and values of their own, D = C / H, V vocabulary.

pub mod any;
pub mod attention;
pub mod averaging;
pub mod bigram;
pub mod block;
pub mod dropout;
pub mod embeddings;
pub mod gpt;
pub mod init;
pub mod kv_cache;
pub mod linear;
pub mod loss;
pub mod mlp;
pub mod norm;
pub mod parameters;
pub mod recomputed;
pub mod shallow;

pub use any::Model;
pub use gpt::Gpt;
pub use parameters::Parameters;

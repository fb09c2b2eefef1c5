//! Text to splits ([`corpus`]), splits to rows of tokens ([`batches`]). No MLX here.

pub mod batches;
pub mod corpus;

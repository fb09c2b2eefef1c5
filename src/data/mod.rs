//! Text to splits ([`corpus`]), splits to rows of tokens ([`batches`]). No MLX here.

pub mod batches;
pub mod corpus;
pub mod prepare;
mod text_files;
pub mod tokens;

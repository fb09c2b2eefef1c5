//! Text to splits ([`corpus`]), or to token shards on disk ([`prepare`], [`manifest`]); either to tokens ([`dataset`]); tokens to
//! batches ([`batches`]), a text to overlapping windows ([`windows`]).
//! No MLX here.

pub mod batches;
pub mod corpus;
pub mod dataset;
pub mod manifest;
pub mod prepare;
mod text_files;
mod text_finder;
pub mod tokens;
pub mod windows;

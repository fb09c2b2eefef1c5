//! Text to splits ([`corpus`]), or to token shards on disk ([`prepare`], [`manifest`]); these, or files of tokens that other
//! programs made, to tokens ([`dataset`]); tokens to batches ([`batches`]), a text to overlapping windows ([`windows`]).
//! No MLX here.

pub mod batches;
pub mod corpus;
pub mod dataset;
pub mod manifest;
mod pickle;
pub mod prepare;
mod text_files;
mod text_finder;
pub mod token_files;
pub mod token_folder;
pub mod tokens;
pub mod windows;

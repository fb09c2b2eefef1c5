//! Tokenizers against those of other programs, and the folders of tokens that they make.

#[path = "../common/mod.rs"]
mod common;

mod chat;
mod commands;
mod completion;
mod files;
mod parity;
mod special_tokens;
mod token_folders;
mod training;

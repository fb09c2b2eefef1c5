//! What README, docs, the book and the layout of the sources say is true.

#[path = "../common/mod.rs"]
mod common;

mod book;
mod examples;
mod law;
mod layout;
mod promises;
mod readme;
mod world;

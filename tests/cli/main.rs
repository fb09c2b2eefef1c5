//! The program as a user runs it: its commands, what they print, and what they refuse.

#[path = "../common/mod.rs"]
mod common;

mod accuracy;
mod architectures;
mod bad_input;
mod bench;
mod board;
mod chat;
mod commands;
mod data;
mod docs;
mod evaluation;
mod generate;
mod hostile;
mod interactive;
mod lessons;
mod minutes;
mod numbers;
mod places;
mod runs;
mod saving;
mod speedrun;
mod spikes;
mod sweep;
mod terminal;

//! The terminal: results and messages, text that steers nothing, Markdown, tables, curves as pictures.

pub mod amount;
pub mod console;
pub mod escape;
pub mod layout;
pub mod markdown;
pub mod plot;
pub mod progress;
pub mod table;

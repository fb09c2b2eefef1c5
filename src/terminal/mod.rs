//! The terminal: results and messages, text that steers nothing, curves as pictures.

pub mod console;
pub mod escape;
pub mod plot;

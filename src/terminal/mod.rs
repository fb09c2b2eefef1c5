//! The terminal: results and messages, text that steers nothing, curves as pictures.

pub mod amount;
pub mod console;
pub mod escape;
pub mod layout;
pub mod plot;
pub mod progress;

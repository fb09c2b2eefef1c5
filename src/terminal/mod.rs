//! The terminal: results and messages, escaping of control characters, Markdown, tables, progress; plots as SVG.

#[cfg(feature = "cli")]
pub mod amount;
#[cfg(feature = "cli")]
pub mod console;
pub mod escape;
#[cfg(feature = "cli")]
pub mod layout;
#[cfg(feature = "lessons")]
pub mod markdown;
#[cfg(feature = "plots")]
pub mod plot;
#[cfg(feature = "cli")]
pub mod progress;
pub mod shell;
#[cfg(feature = "cli")]
pub mod table;

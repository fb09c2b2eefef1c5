//! Prints the library's log messages on standard error.

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::terminal::console::say_over_bar;

/// The library's own messages, not those of the crates that it uses.
const OWN: &str = "mlx_gpt";

struct Messages;

impl Log for Messages {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with(OWN)
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let label = match record.level() {
                Level::Error | Level::Warn => "warning",
                _ => "note",
            };
            say_over_bar(format_args!("{label:<8} {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Installs the logger.
pub fn show() {
    // It fails only if another logger is installed, which then receives them.
    if log::set_logger(&Messages).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

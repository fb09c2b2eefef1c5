//! How far long work has come: a bar on a terminal, a line every few seconds in a file or a pipe.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::console::say;
use crate::disk::transfer::Transfer;

/// Between two lines where there is no terminal: a reader sees that it works, and a log stays short.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// Work of a known size.
pub struct Progress {
    /// Hidden where there is no terminal.
    bar: ProgressBar,
    lines: Option<Lines>,
    unit: Unit,
}

/// What work is counted in.
#[derive(Clone, Copy)]
pub enum Unit {
    Bytes,
    /// Such as `tokens`.
    Of(&'static str),
}

impl Progress {
    /// `what` is being done, `total` in all; 0 where that is told later.
    pub fn new(what: &str, total: u64, unit: Unit) -> Self {
        // Each fits into 80 columns; what is longer than a terminal is cut off.
        let template = match unit {
            Unit::Bytes => "{bar:20} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {wide_msg}".to_owned(),
            Unit::Of(things) => format!("{{bar:24}} {{pos}}/{{len}} {things}  {{eta}} left  {{wide_msg}}"),
        };
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let progress = Self {
            bar: ProgressBar::new(total).with_style(style),
            lines: (!io::stderr().is_terminal()).then(Lines::new),
            unit,
        };
        progress.bar.set_message(what.to_owned());
        progress
    }

    /// Something else is done from now on, `total` in all.
    pub fn begin(&self, what: &str, total: u64) {
        self.bar.reset();
        self.bar.set_message(what.to_owned());
        self.bar.set_length(total);
    }

    /// So much more of it is done.
    pub fn inc(&self, done: u64) {
        self.bar.inc(done);
        self.line();
    }

    /// So much of it is done in all.
    pub fn set_position(&self, done: u64) {
        self.bar.set_position(done);
        self.line();
    }

    /// Says something beside the bar.
    pub fn suspend(&self, say: impl FnOnce()) {
        self.bar.suspend(say);
    }

    fn line(&self) {
        if self.lines.as_ref().is_none_or(|lines| !lines.is_due()) {
            return;
        }
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let what = self.bar.message();
        let what = if what.is_empty() { what } else { format!("{what}  ") };
        match self.unit {
            Unit::Bytes => say(format_args!("{what}{} of {}", HumanBytes(done), HumanBytes(total))),
            Unit::Of(things) => say(format_args!("{what}{done} of {total} {things}")),
        }
    }
}

/// A bar for each file.
impl Transfer for Progress {
    fn begin(&mut self, name: &str, bytes: u64) {
        self.suspend(|| say(format_args!("fetching {name}")));
        Progress::begin(self, "", bytes);
    }

    fn received(&mut self, bytes: u64) {
        self.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Work whose end is not known.
pub struct Spinner(ProgressBar);

impl Spinner {
    pub fn start() -> Self {
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            spinner.set_style(style);
        }
        let spinner = Self(spinner);
        spinner.0.enable_steady_tick(Duration::from_millis(120));
        spinner
    }

    /// What is done from now on; in a file or a pipe, a line.
    pub fn stage(&self, what: &str) {
        self.0.set_message(what.to_owned());
        if !io::stderr().is_terminal() {
            say(what);
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// When the next line is due.
pub struct Lines(Mutex<Instant>);

impl Lines {
    pub fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Whether a line is due; if so, it counts as said.
    pub fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.elapsed() >= BETWEEN_LINES;
        if due {
            *last = Instant::now();
        }
        due
    }

    /// A line was said for another reason.
    pub fn said(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

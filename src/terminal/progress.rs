//! Progress of long work: a bar on a terminal, otherwise a line every few seconds.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::console::say;
use crate::disk::download_progress::DownloadProgress;

/// Time between two lines if there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Progress of work of a known size.
pub struct Progress {
    /// Hidden if there is no terminal.
    bar: ProgressBar,
    lines: Option<RateLimiter>,
    unit: Unit,
}

/// The unit that progress is counted in.
#[derive(Clone, Copy)]
pub enum Unit {
    Bytes,
    /// Things of that name, such as `tokens`.
    Of(&'static str),
}

impl Progress {
    /// A new bar labelled `what`, of `total` units; 0 if [`begin`](Self::begin) sets the total later.
    pub fn new(what: &str, total: u64, unit: Unit) -> Self {
        // Each fits into 80 columns; the message is truncated at the terminal's width.
        let template = match unit {
            Unit::Bytes => "{bar:20} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {wide_msg}".to_owned(),
            Unit::Of(things) => format!("{{bar:24}} {{pos}}/{{len}} {things}  {{eta}} left  {{wide_msg}}"),
        };
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let progress = Self {
            bar: ProgressBar::new(total).with_style(style),
            lines: (!io::stderr().is_terminal()).then(RateLimiter::new),
            unit,
        };
        progress.bar.set_message(what.to_owned());
        progress
    }

    /// Restarts the bar for the next stage.
    pub fn begin(&self, what: &str, total: u64) {
        self.bar.reset();
        self.bar.set_message(what.to_owned());
        self.bar.set_length(total);
    }

    /// Advances by `done` units.
    pub fn inc(&self, done: u64) {
        self.bar.inc(done);
        self.line();
    }

    /// Sets the absolute position.
    pub fn set_position(&self, done: u64) {
        self.bar.set_position(done);
        self.line();
    }

    /// Hides the bar while `print` prints.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
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
impl DownloadProgress for Progress {
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

/// Progress of work of unknown size.
pub struct Spinner(ProgressBar);

impl Spinner {
    /// Starts the animation.
    pub fn start() -> Self {
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            spinner.set_style(style);
        }
        let spinner = Self(spinner);
        spinner.0.enable_steady_tick(Duration::from_millis(120));
        spinner
    }

    /// Shows what is being done now; without a terminal, prints it.
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

/// Limits lines to one every [`LINE_INTERVAL`].
pub struct RateLimiter(Mutex<Instant>);

impl RateLimiter {
    /// The first line is due after one interval.
    pub fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Whether a line is due; if so, the interval starts again.
    pub fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.elapsed() >= LINE_INTERVAL;
        if due {
            *last = Instant::now();
        }
        due
    }

    /// Starts the interval again, after a line that was printed anyway.
    pub fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

//! What is being measured now: a line that moves on a terminal, a line each in a file or a pipe.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::ProgressBar;

use crate::terminal::console::say;

pub struct Progress {
    spinner: Option<ProgressBar>,
}

impl Progress {
    pub fn start() -> Self {
        let spinner = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        if let Some(spinner) = &spinner {
            spinner.enable_steady_tick(Duration::from_millis(120));
        }
        Self { spinner }
    }

    /// Something else is being measured from now on.
    pub fn stage(&self, what: &str) {
        let line = format!("measuring {what}");
        match &self.spinner {
            Some(spinner) => spinner.set_message(line),
            None => say(line),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

//! Ctrl-C, SIGTERM and a closed terminal: the first asks for a save, a second ends at once.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

pub struct Signals(Arc<AtomicUsize>);

impl Signals {
    pub fn register() -> Result<Self> {
        let received = Arc::new(AtomicUsize::new(0));
        let armed = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first signal finds the flag down and raises it, the second finds it up.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&armed))
                .and_then(|_| flag::register(signal, Arc::clone(&armed)))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&received), signal as usize))
                .context("signals cannot be handled")?;
        }
        Ok(Self(received))
    }

    /// For work that is done in parts, between which it can end.
    ///
    /// # Errors
    /// A signal asked for the end.
    pub fn check(&self) -> Result<()> {
        ensure!(self.received().is_none(), "stopped by a signal");
        Ok(())
    }

    /// How the program ends after such work: if it ended for a signal, quietly, with that signal's code.
    pub fn outcome(&self, result: Result<ExitCode>) -> Result<ExitCode> {
        match (result, self.received()) {
            (Err(_), Some(signal)) => Ok(ExitCode::from(128 + signal as u8)),
            (result, _) => result,
        }
    }

    /// The signal that asked the run to stop, if one did.
    pub fn received(&self) -> Option<i32> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as i32),
        }
    }
}

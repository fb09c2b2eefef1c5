//! Ctrl-C, SIGTERM and a closed terminal: all of them request to save and stop.
//!
//! A terminal that closes, a logout, `timeout`, make and systemd all send two signals or more, a moment apart; so all of
//! them are one request. Only a second Ctrl-C, pressed by a user who has seen what it costs, stops the program at once.

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator;
use signal_hook::low_level::exit;

use crate::terminal::console::say_over_bar;
use crate::train::Interrupt;

/// A Ctrl-C more than this after an earlier one stops the program at once.
const FORCE_QUIT_DELAY: Duration = Duration::from_secs(2);

/// The signals that this process receives.
#[derive(Clone)]
pub struct Signals(Arc<State>);

#[derive(Default)]
struct State {
    /// The first signal received, or 0.
    first: AtomicI32,
    /// Describes the unsaved work, for the message. If there is none, a signal ends the process at once.
    unsaved_work: Mutex<Option<String>>,
}

#[derive(Debug, PartialEq)]
enum Effect {
    /// A repeated request: ignored.
    None,
    /// The first request: print this.
    Announce(String),
    /// End the process at once with this exit code.
    Exit(i32),
}

impl Signals {
    /// Registers the handlers; call it once in a process. SIGHUP stays ignored where it is, as under `nohup`.
    ///
    /// # Errors
    /// The system refuses.
    pub fn register() -> Result<Self> {
        let state = Arc::new(State::default());
        let signals: &[i32] = if hangup_is_ignored() {
            &[SIGINT, SIGTERM]
        } else {
            &[SIGINT, SIGTERM, SIGHUP]
        };
        let mut incoming = iterator::Signals::new(signals).context("signals cannot be handled")?;
        let seen = Arc::clone(&state);
        // It blocks on signals until the process ends.
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut interrupted: Option<Instant> = None;
                for signal in incoming.forever() {
                    match seen.on_signal(signal, Instant::now(), &mut interrupted) {
                        Effect::None => {}
                        // In another thread, since a blocked terminal must not delay the next signal.
                        Effect::Announce(line) => drop(thread::spawn(move || say_over_bar(line))),
                        Effect::Exit(code) => exit(code),
                    }
                }
            })
            .context("signals cannot be handled")?;
        Ok(Self(state))
    }

    /// From now on a signal cancels the work at the next [`check`](Self::check); partial output is removed.
    pub fn cancel_on_signal(&self) {
        self.set_unsaved_work(Some("what was written so far".into()));
    }

    /// Polled between stages of work that can be cancelled.
    ///
    /// # Errors
    /// A signal was received.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.requested(), "stopped by a signal");
        Ok(())
    }

    /// The exit code after such work: that of the signal if one cancelled it, without an error message.
    pub fn exit_code(&self, result: Result<ExitCode>) -> Result<ExitCode> {
        match result {
            Err(_) if self.requested() => Ok(self.code()),
            result => result,
        }
    }

    /// The exit code after a run was stopped: that of Ctrl-C, if another machine received the signal.
    pub fn code_or_of_others(&self) -> ExitCode {
        if self.requested() {
            self.code()
        } else {
            ExitCode::from(code(SIGINT) as u8)
        }
    }

    /// The exit code after a signal, as shells define it: 128 + the first signal's number.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(code(self.0.first.load(Ordering::Relaxed)) as u8)
    }
}

impl Interrupt for Signals {
    fn requested(&self) -> bool {
        self.0.first.load(Ordering::Relaxed) != 0
    }

    fn set_unsaved_work(&self, what: Option<String>) {
        *self.0.unsaved_work.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

impl State {
    /// The effect of a signal at `now`, if the first Ctrl-C came at `interrupted`.
    fn on_signal(&self, signal: i32, now: Instant, interrupted: &mut Option<Instant>) -> Effect {
        let unsaved_work = self.unsaved_work.lock().unwrap_or_else(PoisonError::into_inner);
        let exchanged = self
            .first
            .compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
        let first = exchanged.err().unwrap_or(signal);
        let earlier = *interrupted;
        if signal == SIGINT {
            interrupted.get_or_insert(now);
        }
        let again = signal == SIGINT && earlier.is_some_and(|earlier| now.duration_since(earlier) > FORCE_QUIT_DELAY);
        match unsaved_work.as_ref() {
            None => Effect::Exit(code(first)),
            Some(_) if again => Effect::Exit(code(first)),
            Some(lost) if exchanged.is_ok() => {
                let again = match signal {
                    SIGINT => "a Ctrl-C more than two seconds from now",
                    _ => "two Ctrl-C more than two seconds apart",
                };
                Effect::Announce(format!(
                    "saving and stopping; {again} would stop at once and lose {lost}"
                ))
            }
            Some(_) => Effect::None,
        }
    }
}

/// Handles SIGXFSZ, so that a file that outgrows `ulimit -f` is a write error with a message and does not end the process.
pub fn outlive_file_limits() {
    // A handler instead of SIG_IGN, because ignored signals are inherited by the programs that this one starts.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

fn code(signal: i32) -> i32 {
    128 + signal
}

/// Whether SIGHUP was ignored at start-up (nohup): a child process inherits that, and survives sending itself SIGHUP.
fn hangup_is_ignored() -> bool {
    Command::new("sh")
        .args(["-c", "kill -s HUP $$"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The effects of signals at those tenths of a second.
    fn effects(unsaved_work: Option<&str>, signals: &[(i32, u64)]) -> Vec<Effect> {
        let state = State::default();
        *state.unsaved_work.lock().unwrap() = unsaved_work.map(str::to_owned);
        let start = Instant::now();
        let mut interrupted = None;
        let at = |tenths| start + Duration::from_millis(100 * tenths);
        signals
            .iter()
            .map(|&(signal, tenths)| state.on_signal(signal, at(tenths), &mut interrupted))
            .collect()
    }

    #[test]
    fn a_ctrl_c_late_after_another_ends_the_program_and_nothing_else_does() {
        let says = |effect: &Effect, word: &str| matches!(effect, Effect::Announce(line) if line.contains(word));
        for (signals, end) in [
            (&[(SIGINT, 0), (SIGINT, 19), (SIGINT, 20)][..], None),
            (&[(SIGINT, 0), (SIGINT, 19), (SIGINT, 21)], Some(130)),
            (&[(SIGTERM, 0), (SIGTERM, 50), (SIGHUP, 90), (SIGTERM, 999)], None),
            (&[(SIGTERM, 0), (SIGINT, 50), (SIGHUP, 80), (SIGINT, 60)], None),
            (&[(SIGTERM, 0), (SIGINT, 50), (SIGINT, 71)], Some(143)),
            (&[(SIGHUP, 0), (SIGINT, 0), (SIGTERM, 30), (SIGINT, 30)], Some(129)),
        ] {
            let mut found = effects(Some("the last 7 steps"), signals);
            let last = found.pop().unwrap();
            assert_eq!(last, end.map_or(Effect::None, Effect::Exit), "{signals:?}");
            assert!(says(&found[0], "lose the last 7 steps"), "{found:?}");
            assert!(found[1..].iter().all(|effect| *effect == Effect::None), "{found:?}");
        }
        assert_eq!(effects(None, &[(SIGTERM, 0)]), [Effect::Exit(143)]);
    }
}

//! Ctrl-C, SIGTERM and a closed terminal: requests to save and stop, however many of them come.
//!
//! A terminal that closes, a logout, `timeout`, make and systemd all send two signals or more, a moment apart; so all of
//! them are one request. Only a person who presses Ctrl-C again, after having seen what it costs, stops the program at
//! once.

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
use crate::train::Stop;

/// A Ctrl-C that comes later than this after an earlier one stops the program at once.
const AGAIN: Duration = Duration::from_secs(2);

/// The signals of this process from now on.
#[derive(Clone)]
pub struct Signals(Arc<State>);

#[derive(Default)]
struct State {
    /// The first signal that came, or 0.
    first: AtomicI32,
    /// What would be lost if the program ended now, in words. Where that is nothing, a signal ends it.
    at_stake: Mutex<Option<String>>,
}

#[derive(Debug, PartialEq)]
enum Effect {
    /// It is one more of the same request.
    None,
    /// It is the first.
    Say(String),
    /// The process ends at once, with this code.
    End(i32),
}

impl Signals {
    /// Registers them, once in a process. SIGHUP stays ignored where it is, as `nohup` has it.
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
        // It waits for signals for as long as the process lives, and computes nothing.
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut interrupted: Option<Instant> = None;
                for signal in incoming.forever() {
                    match seen.take(signal, Instant::now(), &mut interrupted) {
                        Effect::None => {}
                        // Apart, since a terminal that is stuck must not keep the next signal waiting.
                        Effect::Say(line) => drop(thread::spawn(move || say_over_bar(line))),
                        Effect::End(code) => exit(code),
                    }
                }
            })
            .context("signals cannot be handled")?;
        Ok(Self(state))
    }

    /// From now on a signal is a request, which [`check`](Self::check) answers; what is being written is removed then.
    pub fn defer(&self) {
        self.at_stake(Some("what was written so far".into()));
    }

    /// For work that is done in parts, between which it can end.
    ///
    /// # Errors
    /// A signal asked for the end.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.requested(), "stopped by a signal");
        Ok(())
    }

    /// How the program ends after such work: if it ended for a signal, quietly, with that signal's code.
    pub fn outcome(&self, result: Result<ExitCode>) -> Result<ExitCode> {
        match result {
            Err(_) if self.requested() => Ok(self.code()),
            result => result,
        }
    }

    /// The exit code of a program that a signal stopped, as shells have it: the first one's.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(code(self.0.first.load(Ordering::Relaxed)) as u8)
    }
}

impl Stop for Signals {
    fn requested(&self) -> bool {
        self.0.first.load(Ordering::Relaxed) != 0
    }

    fn at_stake(&self, what: Option<String>) {
        *self.0.at_stake.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

impl State {
    /// What a signal does that comes at `now`, where the first Ctrl-C so far came at `interrupted`.
    fn take(&self, signal: i32, now: Instant, interrupted: &mut Option<Instant>) -> Effect {
        let at_stake = self.at_stake.lock().unwrap_or_else(PoisonError::into_inner);
        let exchanged = self
            .first
            .compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
        let first = exchanged.err().unwrap_or(signal);
        let earlier = *interrupted;
        if signal == SIGINT {
            interrupted.get_or_insert(now);
        }
        let again = signal == SIGINT && earlier.is_some_and(|earlier| now.duration_since(earlier) > AGAIN);
        match at_stake.as_ref() {
            None => Effect::End(code(first)),
            Some(_) if again => Effect::End(code(first)),
            Some(lost) if exchanged.is_ok() => {
                let again = match signal {
                    SIGINT => "Ctrl-C once more after two seconds",
                    _ => "Ctrl-C twice, more than two seconds apart,",
                };
                Effect::Say(format!("saving, then stopping; {again} stops at once and loses {lost}"))
            }
            Some(_) => Effect::None,
        }
    }
}

/// Makes of a file that outgrows `ulimit -f` an error of the write, which says so, where the signal would end the process.
pub fn outlive_file_limits() {
    // A handler, and not that it is ignored: programs that this one starts begin with the system's own again.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

fn code(signal: i32) -> i32 {
    128 + signal
}

/// Whether this process was started with SIGHUP ignored: its children are, too, and such a one outlives its own.
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
    fn effects(at_stake: Option<&str>, signals: &[(i32, u64)]) -> Vec<Effect> {
        let state = State::default();
        *state.at_stake.lock().unwrap() = at_stake.map(str::to_owned);
        let start = Instant::now();
        let mut interrupted = None;
        let at = |tenths| start + Duration::from_millis(100 * tenths);
        signals
            .iter()
            .map(|&(signal, tenths)| state.take(signal, at(tenths), &mut interrupted))
            .collect()
    }

    #[test]
    fn a_ctrl_c_late_after_another_ends_the_program_and_nothing_else_does() {
        let says = |effect: &Effect, word: &str| matches!(effect, Effect::Say(line) if line.contains(word));
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
            assert_eq!(last, end.map_or(Effect::None, Effect::End), "{signals:?}");
            assert!(says(&found[0], "loses the last 7 steps"), "{found:?}");
            assert!(found[1..].iter().all(|effect| *effect == Effect::None), "{found:?}");
        }
        assert_eq!(effects(None, &[(SIGTERM, 0)]), [Effect::End(143)]);
    }
}

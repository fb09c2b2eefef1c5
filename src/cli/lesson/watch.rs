//! `mlx-gpt lesson watch`: checks a workbook at every save.

use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use console::{Key, Term};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::workbook::checked;
use crate::course;
use crate::lessons::workbook::{Workbook, exercises};
use crate::terminal::console::print;

/// How often the files' times are looked at.
const INTERVAL: Duration = Duration::from_millis(200);

/// The key that ends it.
const QUIT: Key = Key::Char('q');

/// What a line of a check begins with that is shown only when asked for.
const HINT: &str = "       hint: ";

/// Checks a day after every save, until `q`; the last one that was written unless one is given.
pub fn watch(day: Option<u8>, folder: &Path) -> Result<ExitCode> {
    let workbook = Workbook::open(folder)?;
    let mut screen = Watch {
        day: match day {
            Some(day) => course::find(day)?.day,
            None => unfinished_day(&workbook)?,
        },
        terminal: std::io::stdout().is_terminal().then(Term::stdout),
        said: String::new(),
        hints: false,
    };
    let _mode = TerminalMode::keep();
    let keys = keys(screen.terminal.is_some() && std::io::stdin().is_terminal());
    let mut saved = None;
    loop {
        let now = last_save(&workbook)?;
        if saved != Some(now) {
            saved = Some(now);
            screen.check(&workbook)?;
        }
        match keys.recv_timeout(INTERVAL) {
            Ok(QUIT) => break,
            Ok(Key::Char('h')) => screen.show_hints()?,
            Ok(Key::Char('n')) => screen.turn(&workbook, 1)?,
            Ok(Key::Char('p')) => screen.turn(&workbook, -1)?,
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(INTERVAL),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The first day that is not all right, from the one that was saved last on; else from the first.
fn unfinished_day(workbook: &Workbook) -> Result<u8> {
    let progress = workbook.progress();
    let days = || course::LESSONS.iter().map(|lesson| lesson.day);
    let last = workbook.last_saved(days())?.unwrap_or_default();
    for day in days().filter(|&day| day >= last).chain(days()) {
        if progress.right(day) < exercises(day)?.len() {
            return Ok(day);
        }
    }
    Ok(days().next_back().unwrap_or(1))
}

/// A day and its last check.
struct Watch {
    day: u8,
    terminal: Option<Term>,
    said: String,
    hints: bool,
}

impl Watch {
    fn check(&mut self, workbook: &Workbook) -> Result<()> {
        if let Some(terminal) = &self.terminal {
            terminal.clear_screen()?;
            print(format_args!("day {}: checking …\n", self.day))?;
        }
        self.said = checked(self.day, workbook)?;
        self.hints = false;
        self.draw()
    }

    fn show_hints(&mut self) -> Result<()> {
        self.hints = true;
        self.draw()
    }

    fn turn(&mut self, workbook: &Workbook, days: i8) -> Result<()> {
        let day = self.day.saturating_add_signed(days);
        if course::find(day).is_ok() {
            self.day = day;
            self.check(workbook)?;
        }
        Ok(())
    }

    fn draw(&self) -> Result<()> {
        if let Some(terminal) = &self.terminal {
            terminal.clear_screen()?;
        }
        let lesson = course::find(self.day)?;
        let shown = self.said.lines().filter(|line| self.hints || !line.starts_with(HINT));
        let shown: String = shown.map(|line| format!("{line}\n")).collect();
        let has_hints = self.said.lines().any(|line| line.starts_with(HINT));
        let keys = match (&self.terminal, has_hints && !self.hints) {
            (None, _) => "",
            (Some(_), true) => "\n[h] hint   [n] next day   [p] previous day   [q] quit\n",
            (Some(_), false) => "\n[n] next day   [p] previous day   [q] quit\n",
        };
        print(format_args!("day {}: {}\n\n{shown}{keys}", lesson.day, lesson.title))
    }
}

/// The terminal's mode, which is set again when this is dropped: the thread that waits for a key leaves its own.
struct TerminalMode(Option<Termios>);

impl TerminalMode {
    fn keep() -> Self {
        Self(tcgetattr(std::io::stdin()).ok()) // none without a terminal
    }
}

impl Drop for TerminalMode {
    fn drop(&mut self) {
        if let Some(mode) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, mode); // the terminal may be gone
        }
    }
}

/// The keys as they are pressed; none without a terminal.
fn keys(interactive: bool) -> Receiver<Key> {
    let (sender, receiver) = mpsc::channel();
    if interactive {
        thread::spawn(move || {
            while let Ok(key) = Term::stdout().read_key() {
                let quits = key == QUIT;
                if sender.send(key).is_err() || quits {
                    break; // it would set the mode of the next wait
                }
            }
        });
    }
    receiver
}

/// When a source file of the workbook was last written; editors have other files there for a moment.
fn last_save(workbook: &Workbook) -> Result<SystemTime> {
    let folder = workbook.folder().join("src");
    let shown = || format!("{} cannot be read", folder.display());
    let mut last = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(&folder).with_context(shown)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Ok(metadata) = fs::metadata(&path)
        {
            last = last.max(metadata.modified()?);
        }
    }
    Ok(last)
}

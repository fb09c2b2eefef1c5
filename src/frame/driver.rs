//! The process that drives a panel.
//!
//! It is started with the arguments `--panel INCHES --device PATH`, says `ready` on standard output, reads frames from standard
//! input as PBM files (P4) one after the other, and answers each with the line `shown`. Instead of any of these lines it may say
//! `error: ` and why. The comment of a frame is the refresh that it asks for, `full` or `partial`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::{Bitmap, Panel};

/// The driver that comes with this program, in its folder.
const DRIVER: &str = "mlx-gpt-epd";

/// How a panel changes from one frame to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// All pixels become black, white, and what they are: takes seconds, and leaves no shadows.
    Full,
    /// Only pixels that differ change, where the panel can do that.
    Partial,
}

/// A driver that is running.
pub struct Driver {
    program: PathBuf,
    process: Child,
    /// `None` once it is told that there is no more.
    frames: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Driver {
    /// Starts `program`, or the driver in the folder of this program.
    ///
    /// # Errors
    /// It isn't there, cannot be started, or says why it cannot drive the panel.
    pub fn start(program: Option<PathBuf>, panel: Panel, device: &Path) -> Result<Self> {
        let program = match program {
            Some(program) => program,
            None => std::env::current_exe()
                .context("the folder of this program is unknown")?
                .with_file_name(DRIVER),
        };
        ensure!(
            program.is_file(),
            "{} is not there, which drives e-ink panels; build it with `cargo build -p mlx-gpt-epd`, or give another with --driver",
            program.display()
        );
        let mut process = Command::new(&program)
            .args(["--panel", panel.name(), "--device"])
            .arg(device)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // a Ctrl-C at the terminal is not for it: it ends with its input, and never within a frame
            .spawn()
            .with_context(|| format!("{} could not be started", program.display()))?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (frames, answers) = pipes.context("the driver has no pipes")?;
        let mut driver = Self {
            program,
            process,
            frames: Some(frames),
            answers: BufReader::new(answers),
        };
        driver.wait_for("ready")?;
        Ok(driver)
    }

    /// Passes a frame on, and waits until it is shown.
    ///
    /// # Errors
    /// What the driver says, or that it ended.
    pub fn show(&mut self, frame: &Bitmap, refresh: Refresh) -> Result<()> {
        let comment = match refresh {
            Refresh::Full => "full",
            Refresh::Partial => "partial",
        };
        if let Some(frames) = &mut self.frames {
            // A driver that ended before has said why.
            let _ = frames.write_all(&frame.to_pbm(comment)).and_then(|()| frames.flush());
        }
        self.wait_for("shown")
    }

    /// Waits for that line.
    fn wait_for(&mut self, line: &str) -> Result<()> {
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .with_context(|| format!("{} cannot be read from", self.program.display()))?;
        let answer = answer.trim_end();
        match answer.strip_prefix("error: ") {
            _ if answer == line => Ok(()),
            Some(why) => bail!("{why}"),
            None => bail!(
                "{} did not say {line}, but {answer:?}; give a program that drives this panel with --driver",
                self.program.display()
            ),
        }
    }
}

impl Drop for Driver {
    /// Lets it end.
    fn drop(&mut self) {
        self.frames = None;
        let _ = self.process.wait();
    }
}

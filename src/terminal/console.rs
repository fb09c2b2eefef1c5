//! Results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::Result;

use crate::terminal::escape::visible;

/// Writes a result to standard output, at once.
///
/// # Errors
/// The reader went away, or the disk behind it is full.
pub fn print(text: impl Display) -> Result<()> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(())
}

/// Says a line on standard error. That nobody listens any more is no reason to stop a run.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", visible(&line.to_string()));
}

/// Says a line from beside the thread that draws progress: its bar, if it is drawn just now, is drawn again below.
pub fn say_over_bar(line: impl Display) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[2K");
    }
    say(line);
}

/// Says that something went wrong which is no reason to stop.
pub fn warn(line: impl Display) {
    say(format_args!("warning  {line}"));
}

/// How the user calls this program, for commands that it proposes.
pub fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_else(|| "mlx-gpt".into());
    quoted(Path::new(&name))
}

/// A path for a command that is proposed: in quotes where a shell would read it as something else.
pub fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    shlex::try_quote(&path).map_or_else(|_| path.to_string(), |quoted| quoted.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposed_commands_survive_a_shell() {
        assert_eq!(quoted(Path::new("runs/shakespeare-nano")), "runs/shakespeare-nano");
        for path in ["my runs/x", "it's", "a;b", "$HOME", "new\nline", "~"] {
            assert_eq!(shlex::split(&quoted(Path::new(path))), Some(vec![path.to_owned()]));
        }
    }
}

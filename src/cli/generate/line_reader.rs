//! Lines of input: at a terminal with editing and a persistent history, otherwise unchanged from a file or a pipe.

use std::fs;
use std::io::{self, BufRead, ErrorKind, IsTerminal, Read, stdin};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustyline::error::ReadlineError;
use rustyline::{Behavior, Config, DefaultEditor};

/// Maximum length of the history.
const HISTORY_LINES: usize = 1000;

pub enum LineReader {
    /// At a terminal.
    Terminal {
        editor: Box<DefaultEditor>,
        /// The history's file, if it can be written.
        history: Option<PathBuf>,
    },
    /// From a file or a pipe; a line has at most `max_bytes`.
    Piped { max_bytes: u64 },
}

/// What a read returns.
pub enum Input {
    /// A line, without its line end.
    Text(String),
    /// A line that cannot be used, and why.
    Unreadable(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    /// Ctrl-D at the prompt, or the end of the file.
    End,
}

impl LineReader {
    /// Reads standard input in lines of up to `max_bytes`.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn new(max_bytes: u64) -> Result<Self> {
        if !stdin().is_terminal() {
            return Ok(Self::Piped { max_bytes });
        }
        let config = Config::builder()
            .max_history_size(HISTORY_LINES)
            .context("line editing cannot be set up")?
            // The prompt belongs on the terminal, even if standard output is a file.
            .behavior(Behavior::PreferTerm)
            .build();
        let mut editor = DefaultEditor::with_config(config).context("the terminal cannot be used")?;
        let history = history_file();
        if let Some(path) = &history {
            // It does not exist the first time; an unreadable history is no reason to fail.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal {
            editor: Box::new(editor),
            history,
        })
    }

    /// Reads the next line.
    ///
    /// # Errors
    /// Standard input cannot be read.
    pub fn read(&mut self) -> Result<Input> {
        const FAILED: &str = "standard input cannot be read";
        match self {
            Self::Piped { max_bytes } => read_line(&mut stdin().lock(), *max_bytes).context(FAILED),
            Self::Terminal { editor, history } => match editor.readline("> ") {
                Ok(line) => {
                    if let Some(path) = history {
                        append_history(editor, path, &line);
                    }
                    Ok(Input::Text(line))
                }
                Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
                Err(ReadlineError::Eof) => Ok(Input::End),
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    Ok(Input::Unreadable("it is not UTF-8".into()))
                }
                Err(error) => Err(error).context(FAILED),
            },
        }
    }
}

/// The next line without its line end. An invalid line is read to its end too, so that the next one can be used.
fn read_line(input: &mut impl BufRead, max_bytes: u64) -> io::Result<Input> {
    let mut bytes = Vec::new();
    if input.take(max_bytes + 1).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(Input::End);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    } else if bytes.len() as u64 > max_bytes {
        input.skip_until(b'\n')?;
        return Ok(Input::Unreadable(format!("it has more than {max_bytes} bytes")));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(match String::from_utf8(bytes) {
        Ok(line) => Input::Text(line),
        Err(error) => Input::Unreadable(format!(
            "it is not UTF-8, from byte {} on",
            error.utf8_error().valid_up_to()
        )),
    })
}

/// Written at once, so that no line is lost however the program ends. Errors are ignored: the history is optional.
fn append_history(editor: &mut DefaultEditor, path: &PathBuf, line: &str) {
    let _ = editor.add_history_entry(line).and_then(|_| editor.append_history(path));
}

/// The history's file in the user's data folder, which is created if it is missing.
fn history_file() -> Option<PathBuf> {
    let folder = dirs::data_dir()?.join("mlx-gpt");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history.txt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_taken_does_not_end_the_others() {
        let mut input = &b"one\r\nba\xff\x80d\n0123456789 and more\n01234567\n\nend"[..];
        let mut lines = Vec::new();
        loop {
            match read_line(&mut input, 8).unwrap() {
                Input::Text(line) => lines.push(line),
                Input::Unreadable(why) => lines.push(format!("unreadable: {why}")),
                Input::End => break,
                Input::Interrupted => unreachable!(),
            }
        }
        assert_eq!(
            lines,
            [
                "one",
                "unreadable: it is not UTF-8, from byte 2 on",
                "unreadable: it has more than 8 bytes",
                "01234567",
                "",
                "end"
            ]
        );
    }
}

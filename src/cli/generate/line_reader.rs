//! Lines from whoever writes: edited, with a history that lasts, at a terminal; as they are from a file or a pipe.

use std::fs;
use std::io::{self, BufRead, ErrorKind, IsTerminal, Read, stdin};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustyline::error::ReadlineError;
use rustyline::{Behavior, Config, DefaultEditor};

/// Lines that the history keeps.
const HISTORY_LINES: usize = 1000;

pub enum LineReader {
    Terminal {
        editor: Box<DefaultEditor>,
        /// Where the history is kept, if it can be.
        history: Option<PathBuf>,
    },
    /// A file or a pipe; of a line, so many bytes at most are taken.
    Plain { most: u64 },
}

pub enum Line {
    Text(String),
    /// What cannot be taken, and why.
    Unreadable(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    /// Ctrl-D at the prompt, or the end of the file.
    End,
}

impl LineReader {
    /// Reads standard input, lines of up to `most` bytes.
    pub fn new(most: u64) -> Result<Self> {
        if !stdin().is_terminal() {
            return Ok(Self::Plain { most });
        }
        let config = Config::builder()
            .max_history_size(HISTORY_LINES)
            .context("line editing cannot be set up")?
            // What is typed belongs on the terminal, even where the text goes to a file.
            .behavior(Behavior::PreferTerm)
            .build();
        let mut editor = DefaultEditor::with_config(config).context("the terminal cannot be used")?;
        let history = history_file();
        if let Some(path) = &history {
            // There is none the first time, and one that cannot be read is no reason not to write.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal {
            editor: Box::new(editor),
            history,
        })
    }

    /// # Errors
    /// Standard input cannot be read.
    pub fn read(&mut self) -> Result<Line> {
        const FAILED: &str = "standard input cannot be read";
        match self {
            Self::Plain { most } => read_line(&mut stdin().lock(), *most).context(FAILED),
            Self::Terminal { editor, history } => match editor.readline("> ") {
                Ok(line) => {
                    if let Some(path) = history {
                        remember(editor, path, &line);
                    }
                    Ok(Line::Text(line))
                }
                Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    Ok(Line::Unreadable("it is not UTF-8".into()))
                }
                Err(error) => Err(error).context(FAILED),
            },
        }
    }
}

/// The next line without its end; whatever is wrong with it, it is read to its end.
fn read_line(input: &mut impl BufRead, most: u64) -> io::Result<Line> {
    let mut bytes = Vec::new();
    if input.take(most + 1).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(Line::End);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    } else if bytes.len() as u64 > most {
        input.skip_until(b'\n')?;
        return Ok(Line::Unreadable(format!("it has more than {most} bytes")));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(match String::from_utf8(bytes) {
        Ok(line) => Line::Text(line),
        Err(error) => Line::Unreadable(format!(
            "it is not UTF-8, from byte {} on",
            error.utf8_error().valid_up_to()
        )),
    })
}

/// At once, so that no line is lost however the program ends. A history that cannot be kept is none.
fn remember(editor: &mut DefaultEditor, path: &PathBuf, line: &str) {
    let _ = editor.add_history_entry(line).and_then(|_| editor.append_history(path));
}

/// A file among the user's data, whose folder is made where it is missing.
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
                Line::Text(line) => lines.push(line),
                Line::Unreadable(why) => lines.push(format!("unreadable: {why}")),
                Line::End => break,
                Line::Interrupted => unreachable!(),
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

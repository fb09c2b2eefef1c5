//! Lines from whoever writes: edited, with a history that lasts, at a terminal; as they are from a file or a pipe.

use std::fs;
use std::io::{IsTerminal, stdin};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustyline::error::ReadlineError;
use rustyline::{Behavior, Config, DefaultEditor};

/// Lines that the history keeps.
const HISTORY_LINES: usize = 1000;

pub struct LineReader {
    editor: DefaultEditor,
    prompt: &'static str,
    /// Where the history is kept, if it can be.
    history: Option<PathBuf>,
}

pub enum Line {
    Text(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    /// Ctrl-D at the prompt, or the end of the file.
    End,
}

impl LineReader {
    /// Reads standard input.
    pub fn new() -> Result<Self> {
        let terminal = stdin().is_terminal();
        let config = Config::builder()
            .max_history_size(HISTORY_LINES)
            .context("line editing cannot be set up")?
            // What is typed belongs on the terminal, even where the text goes to a file.
            .behavior(if terminal {
                Behavior::PreferTerm
            } else {
                Behavior::Stdio
            })
            .build();
        let mut editor = DefaultEditor::with_config(config).context("the terminal cannot be used")?;
        let history = if terminal { history_file() } else { None };
        if let Some(path) = &history {
            // There is none the first time, and one that cannot be read is no reason not to write.
            let _ = editor.load_history(path);
        }
        Ok(Self {
            editor,
            prompt: if terminal { "> " } else { "" },
            history,
        })
    }

    /// # Errors
    /// Standard input cannot be read, or is not UTF-8.
    pub fn read(&mut self) -> Result<Line> {
        match self.editor.readline(self.prompt) {
            Ok(line) => {
                self.remember(&line);
                Ok(Line::Text(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(error).context("standard input cannot be read"),
        }
    }

    /// At once, so that no line is lost however the program ends. A history that cannot be kept is none.
    fn remember(&mut self, line: &str) {
        if let Some(path) = &self.history {
            let _ = self
                .editor
                .add_history_entry(line)
                .and_then(|_| self.editor.append_history(path));
        }
    }
}

/// A file among the user's data, whose folder is made where it is missing.
fn history_file() -> Option<PathBuf> {
    let folder = dirs::data_dir()?.join("mlx-gpt");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history.txt"))
}

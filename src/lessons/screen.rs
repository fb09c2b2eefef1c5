//! Markdown on a terminal, a section at a time.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use terminal_size::terminal_size;

use crate::terminal::console;
use crate::terminal::markdown::Style;

/// Columns of text; more are hard to read.
const WIDTH: usize = 100;

pub struct Screen {
    style: Style,
    /// Somebody reads along, and says when to go on.
    waits: bool,
    sections: usize,
}

impl Screen {
    pub fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        let columns = terminal.then(terminal_size).flatten();
        Self {
            style: Style {
                columns: columns.map_or(WIDTH, |(columns, _)| WIDTH.min(columns.0.into())),
                ansi: terminal,
            },
            waits: terminal && io::stdin().is_terminal(),
            sections: 0,
        }
    }

    /// Shows a paragraph; before a new section it waits for the reader.
    pub fn text(&mut self, markdown: &str) -> Result<()> {
        if markdown.starts_with("## ") {
            if self.waits && self.sections > 0 {
                wait()?;
            }
            self.sections += 1;
        }
        console::print(format_args!("{}\n", self.style.render(markdown)))
    }
}

fn wait() -> Result<()> {
    console::print("    [Enter goes on] ")?;
    io::stdin().read_line(&mut String::new())?;
    io::stdout().flush()?;
    console::print("\n")
}

//! Renders Markdown on a terminal, section by section. In a file or a pipe it stays Markdown.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;

use crate::terminal::console;
use crate::terminal::layout::stdout_columns;
use crate::terminal::markdown::Style;

/// Maximum columns of text; longer lines are hard to read.
const WIDTH: usize = 100;

/// Prints chapters on the terminal.
pub struct Screen {
    style: Style,
    /// Interactive: waits for Enter.
    waits: bool,
    sections: usize,
}

impl Screen {
    /// A screen as wide as the terminal, up to 100 columns.
    pub fn of_terminal() -> Self {
        let columns = stdout_columns();
        Self {
            style: Style {
                columns: columns.map_or(WIDTH, |columns| columns.min(WIDTH)),
                ansi: columns.is_some(),
            },
            waits: columns.is_some() && io::stdin().is_terminal(),
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

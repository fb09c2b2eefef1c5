//! Markdown on a terminal, a section at a time.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use termimad::{FmtText, MadSkin, terminal_size};

use crate::terminal::console;

/// Columns of text; more are hard to read.
const WIDTH: usize = 100;

pub struct Screen {
    skin: MadSkin,
    width: usize,
    /// Somebody reads along, and says when to go on.
    waits: bool,
    sections: usize,
}

impl Screen {
    pub fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        let mut skin = if terminal {
            MadSkin::default()
        } else {
            MadSkin::no_style()
        };
        skin.headers
            .iter_mut()
            .for_each(|header| header.align = termimad::Alignment::Left);
        Self {
            skin,
            width: if terminal {
                WIDTH.min(terminal_size().0.into())
            } else {
                WIDTH
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
        if let Some(code) = markdown.strip_prefix("```") {
            return self.code(code);
        }
        let markdown = flowing(markdown);
        let text = FmtText::from(&self.skin, &markdown, Some(self.width));
        console::print(format_args!("{text}\n"))
    }

    /// Shows the lines of a block of code as they are; the first is the language's name.
    fn code(&self, code: &str) -> Result<()> {
        let mut text = String::new();
        for line in code.lines().skip(1).filter(|line| !line.starts_with("```")) {
            text += &format!("    {}\n", self.skin.inline_code.apply_to(line));
        }
        console::print(format_args!("{text}\n"))
    }
}

/// A paragraph with its line breaks taken out; items of lists and rows of tables stay apart.
fn flowing(markdown: &str) -> String {
    let mut text = String::new();
    for line in markdown.lines() {
        let numbered = line.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(". ");
        let apart = numbered || ["|", "- ", "* ", "#"].iter().any(|start| line.starts_with(start));
        if !text.is_empty() {
            text.push(if apart || text.starts_with('#') { '\n' } else { ' ' });
        }
        text += line.trim();
    }
    text
}

fn wait() -> Result<()> {
    console::print("    [Enter goes on] ")?;
    io::stdin().read_line(&mut String::new())?;
    io::stdout().flush()?;
    console::print("\n")
}

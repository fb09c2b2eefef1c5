//! Markdown on a terminal, a section at a time. In a file or a pipe it stays Markdown.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use termimad::{FmtText, MadSkin};

use crate::terminal::console;
use crate::terminal::layout::{stdout_columns, width, wrap};

/// Columns of text; more are hard to read.
const WIDTH: usize = 100;

/// Blanks before code.
const INDENT: usize = 4;

pub struct Screen {
    /// How marks are shown; none where they stay marks.
    skin: Option<MadSkin>,
    width: usize,
    /// Somebody reads along, and says when to go on.
    waits: bool,
    sections: usize,
}

impl Screen {
    pub fn new() -> Self {
        let columns = stdout_columns();
        let mut skin = MadSkin::default();
        skin.headers
            .iter_mut()
            .for_each(|header| header.align = termimad::Alignment::Left);
        Self {
            skin: columns.map(|_| skin),
            width: columns.map_or(WIDTH, |columns| columns.min(WIDTH)),
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
        let code = markdown.strip_prefix("```");
        let text = match (&self.skin, code) {
            (None, Some(_)) => markdown.trim_end().to_owned() + "\n",
            (None, None) => self.plain(&flowing(markdown)),
            (Some(skin), Some(code)) => self.code(skin, code),
            (Some(skin), None) => FmtText::from(skin, &flowing(markdown), Some(self.width)).to_string(),
        };
        console::print(text + "\n")
    }

    /// Lines that are no longer than others can read, with their marks.
    fn plain(&self, markdown: &str) -> String {
        let line = |line: &str| {
            let item = ["- ", "* "].iter().any(|start| line.starts_with(start));
            match line.starts_with('|') {
                true => line.to_owned() + "\n",
                false => wrap(line, self.width, if item { 2 } else { 0 }) + "\n",
            }
        };
        markdown.lines().map(line).collect()
    }

    /// The lines of a block of code as they are; the first is the language's name. A comment after code that does not fit
    /// goes before it.
    fn code(&self, skin: &MadSkin, code: &str) -> String {
        let mut text = String::new();
        for line in code.lines().skip(1).filter(|line| !line.starts_with("```")) {
            let room = self.width - INDENT;
            let blanks = line.len() - line.trim_start().len();
            let lines = match line.rsplit_once(" // ") {
                Some((code, comment)) if width(line) > room && !code.trim().is_empty() => {
                    vec![format!("{}// {comment}", &line[..blanks]), code.trim_end().to_owned()]
                }
                _ => vec![line.to_owned()],
            };
            let lines = lines.iter().map(|line| wrap(line, room, blanks + INDENT));
            for line in lines.collect::<Vec<_>>().iter().flat_map(|line| line.lines()) {
                text += &format!("{:INDENT$}{}\n", "", skin.inline_code.apply_to(line));
            }
        }
        text
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

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(skin: Option<MadSkin>) -> Screen {
        Screen {
            skin,
            width: 40,
            waits: false,
            sections: 0,
        }
    }

    #[test]
    fn marks_around_code_stay_in_a_pipe() {
        let text = "A token is\na number: `wte` is\n**its** row of the table of all tokens.";
        let shown = screen(None).plain(&flowing(text));
        assert_eq!(
            shown,
            "A token is a number: `wte` is **its**\nrow of the table of all tokens.\n"
        );
        let item = screen(None).plain("- one two three four five six seven eight");
        assert_eq!(item, "- one two three four five six seven\n  eight\n");
    }

    #[test]
    fn the_shape_of_a_long_line_of_code_goes_before_it() {
        let code = "rust\n    let weights = q.matmul(&k.t())?; // [B, H, T, T]\n    short(); // [B]\n```";
        let shown = screen(None).code(&MadSkin::no_style(), code);
        assert_eq!(
            shown,
            "        // [B, H, T, T]\n        let weights = q.matmul(&k.t())?;\n        short(); // [B]\n"
        );
    }
}

//! Renders the Markdown that the lessons use for a terminal: headings, paragraphs, lists, tables, blocks of code, and
//! `*emphasis*`, `**strong**` and code inside of them.

use super::layout::{width, wrap};

const PLAIN: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const ITALIC: &str = "\x1b[3m";
const CYAN: &str = "\x1b[36m";

/// Blanks before code.
const INDENT: usize = 4;

/// Minimum width of a table's column when the table is too wide.
const MIN_COLUMN_WIDTH: usize = 12;

/// Rendering options.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Maximum columns of a line; code blocks and longer words are not wrapped.
    pub columns: usize,
    /// Marks become colours and weights; otherwise, as for a file or a pipe, they are kept.
    pub ansi: bool,
}

impl Style {
    /// Renders a paragraph, a list, a table, a heading or a code block.
    pub fn render(self, markdown: &str) -> String {
        match markdown.strip_prefix("```") {
            Some(code) if self.ansi => return self.code(code),
            Some(_) => return markdown.trim_end().to_owned() + "\n",
            None => {}
        }
        let mut text = String::new();
        let mut lines = markdown.lines().peekable();
        while let Some(first) = lines.next() {
            if first.starts_with('|') && self.ansi {
                let mut table = vec![first];
                while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                    table.push(row);
                }
                text += &self.table(&table);
                continue;
            }
            let mut item = first.trim().to_owned();
            if first.starts_with('|') {
                text += &format!("{item}\n");
                continue;
            }
            if !first.starts_with('#') {
                while let Some(more) = lines.next_if(|line| !begins_apart(line)) {
                    item += " ";
                    item += more.trim();
                }
            }
            let item = match item.split_once(' ') {
                Some((marks, heading)) if self.ansi && marks.trim_matches('#').is_empty() => {
                    format!("{BOLD}{heading}{PLAIN}")
                }
                _ => self.marked(&item),
            };
            let indent = if begins_apart(first) { hanging(first) } else { 0 };
            text += &wrap(&item, self.columns, indent);
            text.push('\n');
        }
        text
    }

    /// The lines of a block of code as they are; the first is the language's name. A comment after code that does not fit
    /// goes before it.
    fn code(self, code: &str) -> String {
        let mut text = String::new();
        for line in code.lines().skip(1).filter(|line| !line.starts_with("```")) {
            let room = self.columns.saturating_sub(INDENT);
            let blanks = line.len() - line.trim_start().len();
            let lines = match line.rsplit_once(" // ") {
                Some((code, comment)) if width(line) > room && !code.trim().is_empty() => {
                    vec![format!("{}// {comment}", &line[..blanks]), code.trim_end().to_owned()]
                }
                _ => vec![line.to_owned()],
            };
            let lines = lines.iter().map(|line| wrap(line, room, blanks + INDENT));
            for line in lines.collect::<Vec<_>>().iter().flat_map(|line| line.lines()) {
                text += &format!("{:INDENT$}{CYAN}{line}{PLAIN}\n", "");
            }
        }
        text
    }

    /// Text with its marks turned into what they mean. What is code has no marks in it.
    fn marked(self, text: &str) -> String {
        if !self.ansi {
            return text.to_owned();
        }
        let mut shown = String::with_capacity(text.len());
        for (number, part) in text.split('`').enumerate() {
            if number % 2 == 1 {
                shown += &format!("{CYAN}{part}{PLAIN}");
                continue;
            }
            for (number, part) in part.split("**").enumerate() {
                if number % 2 == 1 {
                    shown += &format!("{BOLD}{part}{PLAIN}");
                    continue;
                }
                let pieces: Vec<&str> = part.split('*').collect();
                for (number, piece) in pieces.iter().enumerate() {
                    match (number % 2 == 1, number + 1 == pieces.len()) {
                        (true, false) => shown += &format!("{ITALIC}{piece}{PLAIN}"),
                        (true, true) => shown += &format!("*{piece}"), // a star alone
                        (false, _) => shown += piece,
                    }
                }
            }
        }
        shown
    }

    /// Rows whose columns stand below each other; the longest texts are broken where the table is too wide.
    fn table(self, rows: &[&str]) -> String {
        let rows: Vec<Vec<String>> = rows.iter().map(|row| cells(row)).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let is_rule = |row: &[String]| {
            row.iter()
                .all(|cell| cell.contains('-') && cell.trim_matches([':', '-']).is_empty())
        };
        let numeric: Vec<bool> = (0..columns)
            .map(|column| {
                rows.iter()
                    .any(|row| is_rule(row) && row.get(column).is_some_and(|cell| cell.ends_with(':')))
            })
            .collect();
        let shown: Vec<(bool, Vec<String>)> = rows
            .iter()
            .map(|row| (is_rule(row), row.iter().map(|cell| self.marked(cell)).collect()))
            .collect();
        let texts = |column: usize| {
            shown
                .iter()
                .filter(|row| !row.0)
                .filter_map(move |row| row.1.get(column))
        };
        let mut widths: Vec<usize> = (0..columns)
            .map(|column| texts(column).map(|cell| width(cell)).max().unwrap_or(0).max(3))
            .collect();
        let all = widths.iter().map(|width| width + 3).sum::<usize>() + 1;
        if let Some(widest) = widths.iter_mut().max()
            && all > self.columns
        {
            *widest = widest.saturating_sub(all - self.columns).max(MIN_COLUMN_WIDTH);
        }
        let mut text = String::new();
        for (rule, row) in &shown {
            let wrapped: Vec<Vec<String>> = (0..columns)
                .map(|column| match row.get(column) {
                    _ if *rule => vec!["-".repeat(widths[column])],
                    Some(cell) => wrap(cell, widths[column], 0).lines().map(str::to_owned).collect(),
                    None => Vec::new(),
                })
                .collect();
            for line in 0..wrapped.iter().map(Vec::len).max().unwrap_or(0) {
                text.push('|');
                for (column, lines) in wrapped.iter().enumerate() {
                    let cell = lines.get(line).map_or("", String::as_str);
                    let blanks = " ".repeat(widths[column].saturating_sub(width(cell)));
                    text += &match numeric[column] {
                        true => format!(" {blanks}{cell} |"),
                        false => format!(" {cell}{blanks} |"),
                    };
                }
                text.push('\n');
            }
        }
        text
    }
}

/// Whether a line is no continuation of the one before it.
fn begins_apart(line: &str) -> bool {
    hanging(line) > 0 || line.starts_with('|') || line.starts_with('#')
}

/// Columns that a list's item is indented by; 0 where the line begins none.
fn hanging(line: &str) -> usize {
    let rest = line.trim_start();
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits > 0 && rest[digits..].starts_with(". ") {
        digits + 2
    } else if ["- ", "* "].iter().any(|mark| rest.starts_with(mark)) {
        2
    } else {
        0
    }
}

/// The cells of a table's row. A bar after a backslash is text.
fn cells(row: &str) -> Vec<String> {
    let inner = row.trim().trim_start_matches('|').trim_end_matches('|');
    let escaped = inner.replace("\\|", "\0");
    escaped.split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Style = Style {
        columns: 30,
        ansi: false,
    };
    const TERMINAL: Style = Style {
        columns: 30,
        ansi: true,
    };

    #[test]
    fn a_file_keeps_the_marks_and_a_terminal_shows_what_they_mean() {
        let text = "a *mean* of `x * y`, **no\nless**: 2 * 3";
        assert_eq!(PIPE.render(text), "a *mean* of `x * y`, **no\nless**: 2 * 3\n");
        assert_eq!(
            TERMINAL.render(text),
            "a \x1b[3mmean\x1b[0m of \x1b[36mx * y\x1b[0m, \x1b[1mno less\x1b[0m: 2 *\n3\n"
        );
        assert_eq!(TERMINAL.render("## A heading"), "\x1b[1mA heading\x1b[0m\n");
        assert_eq!(PIPE.render("## A heading"), "## A heading\n");
    }

    #[test]
    fn lists_hang_and_code_is_left_alone() {
        assert_eq!(
            PIPE.render("12. an item that is longer\nthan a line of thirty\n- another"),
            "12. an item that is longer\n    than a line of thirty\n- another\n"
        );
        let code = "```text\na line of code that is longer than thirty\n```";
        assert_eq!(PIPE.render(code), format!("{code}\n"));
    }

    #[test]
    fn the_shape_of_a_long_line_of_code_goes_before_it() {
        let code = "```rust\n    let w = q.matmul(&k)?; // [B, H, T, T]\n    short(); // [B]\n```";
        let shown = TERMINAL.render(code).replace(CYAN, "").replace(PLAIN, "");
        assert_eq!(
            shown,
            "        // [B, H, T, T]\n        let w = q.matmul(&k)?;\n        short(); // [B]\n"
        );
    }

    #[test]
    fn tables_fit() {
        let table = "| what is compared | loss |\n| --- | ---: |\n| a text that is too long for a line | 1.5 |\n| a\\|b | 10.25 |";
        assert_eq!(PIPE.render(table), format!("{table}\n"));
        assert_eq!(
            TERMINAL.render(table),
            "\
| what is compared   |  loss |
| ------------------ | ----- |
| a text that is too |   1.5 |
| long for a line    |       |
| a|b                | 10.25 |
"
        );
        let wide = TERMINAL.render("| `x` | 字 |\n| - | - |");
        assert_eq!(wide.lines().map(width).collect::<Vec<_>>(), [13, 13]);
    }
}

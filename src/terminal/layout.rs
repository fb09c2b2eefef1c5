//! Fits text into a terminal's columns.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use terminal_size::{Width, terminal_size_of};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Fallback if the terminal's size is unknown.
const DEFAULT_COLUMNS: usize = 80;

/// Columns of the terminal behind a stream; none for a file or a pipe.
fn columns(stream: impl AsFd + IsTerminal) -> Option<usize> {
    stream.is_terminal().then(|| match terminal_size_of(stream) {
        Some((Width(columns), _)) if columns > 0 => columns.into(),
        _ => DEFAULT_COLUMNS,
    })
}

/// Columns of standard output, if it is a terminal.
pub fn stdout_columns() -> Option<usize> {
    columns(io::stdout())
}

/// Columns of standard error, if it is a terminal.
pub fn stderr_columns() -> Option<usize> {
    columns(io::stderr())
}

/// Display width of a line in columns; colour sequences have none.
pub fn width(line: &str) -> usize {
    if !line.contains('\x1b') {
        return line.width();
    }
    let (mut columns, mut escaped) = (0, false);
    for character in line.chars() {
        match character {
            '\x1b' => escaped = true,
            'm' if escaped => escaped = false,
            _ if escaped => {}
            other => columns += other.width().unwrap_or(0),
        }
    }
    columns
}

/// Wraps `text` at blanks to at most `columns`, with `indent` blanks before all lines but the first. A word that is longer
/// than a line is not broken, so that paths can be copied.
pub fn wrap(text: &str, columns: usize, indent: usize) -> String {
    let mut lines = String::new();
    let mut used = 0;
    let mut blanks = 0;
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            blanks += 1;
        }
        if word.is_empty() {
            continue;
        }
        // Don't break where the next line would start no further left.
        if used + blanks > indent && used + blanks + width(word) > columns {
            lines.push('\n');
            lines += &" ".repeat(indent);
            used = indent;
        } else {
            lines += &" ".repeat(blanks);
            used += blanks;
        }
        lines += word;
        used += width(word);
        blanks = 0;
    }
    lines
}

/// Truncates `text` to `columns`, with … in place of the rest.
pub fn truncate(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= columns
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    if columns > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(
            wrap("needs    about a minute", 14, 9),
            "needs    about\n         a\n         minute"
        );
        assert_eq!(wrap("short", 80, 9), "short");
        assert_eq!(wrap("a /very/long/path b", 8, 2), "a /very/long/path\n  b");
        assert_eq!(wrap("  a  b", 80, 2), "  a  b");
    }

    #[test]
    fn what_is_cut_fits() {
        assert_eq!(truncate("abcdef", 6), "abcdef");
        assert_eq!(truncate("abcdef", 4), "abc…");
        assert_eq!(truncate("日本語", 4), "日…"); // two columns each
        assert_eq!(truncate("abc", 0), "");
    }
}

//! Text to lines of a number of columns; arithmetic.

/// The paragraphs of a text: no blanks at the ends of lines, no empty lines at its ends, and no two in a row within.
pub fn paragraphs(text: &str) -> Vec<&str> {
    let mut paragraphs: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if !line.is_empty() || paragraphs.last().is_some_and(|last| !last.is_empty()) {
            paragraphs.push(line);
        }
    }
    while paragraphs.last().is_some_and(|last| last.is_empty()) {
        paragraphs.pop();
    }
    paragraphs
}

/// A text in lines.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// The lines, each of at most the number of columns asked for.
    pub lines: Vec<String>,
    /// Whether a word was longer than a line, and was broken.
    pub broke_word: bool,
}

/// Wraps paragraphs between words into lines of at most `columns` characters.
pub fn wrap(paragraphs: &[&str], columns: usize) -> Wrapped {
    let (mut lines, mut broke_word) = (Vec::new(), false);
    for paragraph in paragraphs {
        let (mut line, mut length) = (String::new(), 0);
        for word in paragraph.split_whitespace() {
            let mut rest = word;
            let mut characters = word.chars().count();
            if length > 0 && length + 1 + characters <= columns {
                line.push(' ');
                length += 1;
            } else if length > 0 {
                lines.push(std::mem::take(&mut line));
                length = 0;
            }
            while characters > columns {
                let end = rest.char_indices().nth(columns).map_or(rest.len(), |(end, _)| end);
                lines.push(rest[..end].to_owned());
                rest = &rest[end..];
                characters -= columns;
                broke_word = true;
            }
            line.push_str(rest);
            length += characters;
        }
        lines.push(line);
    }
    Wrapped { lines, broke_word }
}

/// The first `rows` lines of a text that has more; the last of them ends with three dots after a whole word.
pub fn cut(mut lines: Vec<String>, rows: usize, columns: usize) -> Vec<String> {
    if lines.len() <= rows {
        return lines;
    }
    lines.truncate(rows);
    if let Some(last) = lines.last_mut() {
        while last.chars().count() + 4 > columns {
            match last.rfind(' ') {
                Some(end) => last.truncate(end),
                None => *last = last.chars().take(columns.saturating_sub(3)).collect(),
            }
            if !last.contains(' ') && last.chars().count() + 3 <= columns {
                break;
            }
        }
        last.push_str("...");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_whole_words_and_all_of_them() {
        let text = "\n\n Now is the winter \n\n\n of our discontent\nMade glorious summer\n";
        let paragraphs = paragraphs(text);
        assert_eq!(
            paragraphs,
            ["Now is the winter", "", "of our discontent", "Made glorious summer"]
        );
        for columns in 10..30 {
            let wrapped = wrap(&paragraphs, columns);
            assert!(!wrapped.broke_word);
            assert!(
                wrapped
                    .lines
                    .iter()
                    .all(|line| line.len() <= columns && line.trim() == line)
            );
            let words: Vec<&str> = wrapped.lines.iter().flat_map(|line| line.split_whitespace()).collect();
            assert_eq!(words, text.split_whitespace().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_word_longer_than_a_line_is_broken_and_said_to_be() {
        let wrapped = wrap(&["a honorificabilitudinitatibus b"], 10);
        assert_eq!(wrapped.lines, ["a", "honorifica", "bilitudini", "tatibus b"]);
        assert!(wrapped.broke_word);
        assert_eq!(
            wrap(&["ééééé"], 5).lines,
            ["ééééé"],
            "characters are counted, not bytes"
        );
    }

    #[test]
    fn what_does_not_fit_ends_with_dots_after_a_word() {
        let lines = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(cut(lines(&["one two", "six"]), 1, 7), ["one..."]);
        assert_eq!(cut(lines(&["one two", "six"]), 1, 11), ["one two..."]);
        assert_eq!(cut(lines(&["abcdefg", "six"]), 1, 7), ["abcd..."]);
        assert_eq!(cut(lines(&["abc", "def"]), 2, 3), ["abc", "def"]);
    }
}

//! Escapes control and bidirectional characters: names and texts from files may contain terminal escape sequences.

#[cfg(feature = "cli")]
use std::borrow::Cow;

/// `text` with control and format characters escaped, except new lines.
#[cfg(feature = "cli")]
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_unsafe = |character: char| (character.is_control() && character != '\n') || is_format(character);
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) {
            visible.extend(character.escape_unicode());
        } else {
            visible.push(character);
        }
    }
    visible.into()
}

/// Whether a character is an invisible format character: zero-width, joining or bidirectional.
pub fn is_format(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out() {
        assert_eq!(visible("naïve – 字 😀\nline"), "naïve – 字 😀\nline");
        assert_eq!(
            visible("a\u{1b}[31mred\u{9b}m\r\u{7}\t\u{202e}txt"),
            "a\\u{1b}[31mred\\u{9b}m\\u{d}\\u{7}\\u{9}\\u{202e}txt"
        );
    }
}

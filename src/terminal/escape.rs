//! Text that steers no terminal. Names and texts out of files may hold escape sequences, or turn the direction of writing.

#[cfg(feature = "cli")]
use std::borrow::Cow;

/// A message with what would steer a terminal written out, new lines aside.
#[cfg(feature = "cli")]
pub fn visible(text: &str) -> Cow<'_, str> {
    let steers = |character: char| (character.is_control() && character != '\n') || is_format(character);
    if !text.contains(steers) {
        return text.into();
    }
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        if steers(character) {
            visible.extend(character.escape_unicode());
        } else {
            visible.push(character);
        }
    }
    visible.into()
}

/// Whether a character is only seen by what it does to its neighbours or to the direction of writing.
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

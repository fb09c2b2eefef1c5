//! Token-by-token display of a text.

use anyhow::Result;

use super::{SpecialTokenPolicy, Tokenizer};
use crate::terminal::escape::is_format;

/// One token of a text.
pub struct ShownToken {
    /// The token's id.
    pub id: u32,
    /// The bytes that it stands for.
    pub bytes: Vec<u8>,
    /// The token's text with invisible characters escaped; bytes that are no character by themselves as `\xE2`.
    pub shown: String,
    /// `U+0061 U+0062`, with `part of U+1F600` for a character that spans several tokens.
    pub code_points: String,
    /// Whether it is a special token.
    pub is_special: bool,
}

impl ShownToken {
    /// The bytes in hexadecimal.
    pub fn hex(&self) -> String {
        let bytes: Vec<String> = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(" ")
    }
}

/// The tokens of `text`.
///
/// # Errors
/// As [`Tokenizer::encode_with`].
pub fn pieces(tokenizer: &Tokenizer, text: &str, special: &SpecialTokenPolicy) -> Result<Vec<ShownToken>> {
    let ids = tokenizer.encode_with(text, special)?;
    let bytes: Vec<Vec<u8>> = ids
        .iter()
        .map(|&id| tokenizer.token_bytes(id).unwrap_or_default())
        .collect();
    let whole = bytes.concat();
    let characters = characters(&whole);
    let mut next = characters.as_slice();
    let mut start = 0;
    let mut pieces = Vec::with_capacity(ids.len());
    for (id, bytes) in ids.into_iter().zip(bytes) {
        let end = start + bytes.len();
        let mut code_points = Vec::new();
        while let Some(&(from, to, character)) = next.first()
            && from < end
        {
            let part = if from < start || to > end { "part of " } else { "" };
            code_points.push(format!("{part}U+{:04X}", character as u32));
            if to > end {
                break;
            }
            next = &next[1..];
        }
        pieces.push(ShownToken {
            id,
            shown: shown(&bytes),
            bytes,
            code_points: code_points.join(" "),
            is_special: tokenizer.special_tokens().values().any(|&special| special == id),
        });
        start = end;
    }
    Ok(pieces)
}

/// Where each character of `bytes` begins and ends.
fn characters(bytes: &[u8]) -> Vec<(usize, usize, char)> {
    let mut characters = Vec::new();
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            characters.push((at, at + character.len_utf8(), character));
            at += character.len_utf8();
        }
        at += chunk.invalid().len();
    }
    characters
}

/// The text of a token's bytes, with what can't be seen escaped.
pub fn shown(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                ' ' => shown.push(' '),
                '\n' => shown.push('⏎'),
                '\t' => shown.push('⇥'),
                // Controls, combining characters and marks of text direction.
                _ if character.is_control() || character.is_whitespace() || is_format(character) => {
                    shown.extend(character.escape_unicode());
                }
                _ => shown.push(character),
            }
        }
        for byte in chunk.invalid() {
            shown += &format!("\\x{byte:02X}");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_over_several_tokens_is_named_in_each() {
        let tokenizer = Tokenizer::gpt2().unwrap();
        let pieces = pieces(&tokenizer, "a\n 😀\u{1b}", &SpecialTokenPolicy::TEXT).unwrap();
        let seen: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.shown.as_str(), piece.code_points.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("a", "U+0061"),
                ("⏎", "U+000A"),
                (" \\xF0\\x9F\\x98", "U+0020 part of U+1F600"),
                ("\\x80", "part of U+1F600"),
                ("\\u{1b}", "U+001B"),
            ]
        );
    }
}

//! GPT-2's way to write bytes as printable characters, which `vocab.bpe` and `tokenizer.json` use: every byte has a
//! character of its own, and none is white space or a control.

use std::sync::LazyLock;

/// The character of each byte, in the order of bytes.
static CHARACTERS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut characters = ['\0'; 256];
    for (byte, character) in gpt2_byte_order().zip(printable().map(char::from).chain('\u{100}'..)) {
        characters[usize::from(byte)] = character;
    }
    characters
});

/// The bytes that stand for themselves, being visible in Latin-1.
fn printable() -> impl Iterator<Item = u8> {
    (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff)
}

/// All bytes in the order in which GPT-2 numbers them: the printable ones first, then the others, which are written with
/// the characters from U+0100 on.
pub fn gpt2_byte_order() -> impl Iterator<Item = u8> {
    printable().chain((0..=0xff).filter(|byte| !printable().any(|other| other == *byte)))
}

/// Bytes as characters.
///
/// ```
/// use mlx_gpt::tokenizer::byte_unicode::{unicode_to_bytes, bytes_to_unicode};
///
/// assert_eq!(bytes_to_unicode(" é\n".as_bytes()), "ĠÃ©Ċ");
/// assert_eq!(unicode_to_bytes("ĠÃ©Ċ").as_deref(), Some(" é\n".as_bytes()));
/// ```
pub fn bytes_to_unicode(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| CHARACTERS[usize::from(byte)]).collect()
}

/// The bytes of such characters; none if one of them stands for no byte.
pub fn unicode_to_bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(byte_of).collect()
}

fn byte_of(character: char) -> Option<u8> {
    // Those beyond Latin-1 follow each other, so the search is short.
    match u8::try_from(character) {
        Ok(byte) => (CHARACTERS[usize::from(byte)] == character).then_some(byte),
        Err(_) => BEYOND.get((character as usize).checked_sub(0x100)?).copied(),
    }
}

/// The bytes that the characters from U+0100 on stand for.
static BEYOND: LazyLock<Vec<u8>> = LazyLock::new(|| gpt2_byte_order().skip(printable().count()).collect());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = bytes_to_unicode(&bytes);
        assert_eq!(text.chars().count(), 256);
        assert!(!text.contains(|c: char| c.is_whitespace() || c.is_control()));
        assert_eq!(unicode_to_bytes(&text), Some(bytes));
        assert_eq!(unicode_to_bytes("a b"), None);
        assert_eq!(unicode_to_bytes("字"), None);
    }
}

//! What kind of character each one is, from the Unicode tables of the regex crate: a table look-up a character.

use std::sync::LazyLock;

use regex_syntax::hir::{Class as HirClass, HirKind};

/// The classes that the split patterns tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Neither of the others: punctuation, signs, marks, controls, and all that is not assigned.
    Other,
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`, Unicode's `White_Space`
    Space,
}

static ASCII: [Class; 128] = {
    let mut classes = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b'\t'..=b'\r' | b' ' => Class::Space,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

/// A class for each of the 0x110000 code points, made when the first character beyond ASCII is met.
static UNICODE: LazyLock<Vec<Class>> = LazyLock::new(|| {
    let mut classes = vec![Class::Other; char::MAX as usize + 1];
    for (pattern, class) in [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number)] {
        // Both patterns are fixed and parse; the test below would say so if their shape ever changed.
        if let Ok(hir) = regex_syntax::parse(pattern)
            && let HirKind::Class(HirClass::Unicode(ranges)) = hir.kind()
        {
            for range in ranges.iter() {
                classes[range.start() as usize..=range.end() as usize].fill(class);
            }
        }
    }
    for character in ('\u{80}'..='\u{3000}').filter(|character| character.is_whitespace()) {
        classes[character as usize] = Class::Space;
    }
    classes
});

/// The class of the character at byte `at` of `text`, and its length in bytes; none at the end. `at` must be where a
/// character begins.
#[inline]
pub fn class_at(text: &str, at: usize) -> Option<(Class, usize)> {
    let byte = *text.as_bytes().get(at)?;
    if byte < 128 {
        Some((ASCII[byte as usize], 1))
    } else {
        let character = text[at..].chars().next()?;
        Some((UNICODE[character as usize], character.len_utf8()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_have_their_classes() {
        for (text, class) in [
            ("é", Class::Letter),
            ("字", Class::Letter),
            ("ſ", Class::Letter),
            ("٣", Class::Number),
            ("½", Class::Number),
            ("Ⅷ", Class::Number),
            ("\u{a0}", Class::Space),
            ("\u{3000}", Class::Space),
            ("\u{200b}", Class::Other),
            ("\u{301}", Class::Other),
            ("😀", Class::Other),
            ("a", Class::Letter),
            ("\u{1f}", Class::Other),
            ("\u{b}", Class::Space),
        ] {
            assert_eq!(class_at(text, 0), Some((class, text.len())), "{text:?}");
        }
        let spaces = (0..=char::MAX as u32)
            .filter_map(char::from_u32)
            .filter(|c| c.is_whitespace());
        assert!(
            spaces
                .map(|c| class_at(&c.to_string(), 0).unwrap().0)
                .all(|class| class == Class::Space)
        );
    }
}

//! What the fonts can draw, and what stands for the rest.
//!
//! The fonts are embedded-graphics' own: the letters of the X Window System's fixed fonts, in three sizes. A size is a set of
//! fonts, one for each part of ISO 8859: together they have the letters of the languages of Europe, also in Cyrillic and Greek.

use embedded_graphics::mono_font::MonoFont;
use embedded_graphics::mono_font::{
    iso_8859_1, iso_8859_2, iso_8859_3, iso_8859_4, iso_8859_5, iso_8859_7, iso_8859_9, iso_8859_10, iso_8859_13,
    iso_8859_14, iso_8859_15, iso_8859_16,
};

/// The fonts of one size: a character is drawn with the first that has it.
pub type FontSet = [&'static MonoFont<'static>; 12];

/// The parts of ISO 8859 in one size.
macro_rules! font_set {
    ($font:ident) => {
        [
            &iso_8859_1::$font,
            &iso_8859_15::$font,
            &iso_8859_2::$font,
            &iso_8859_7::$font,
            &iso_8859_5::$font,
            &iso_8859_3::$font,
            &iso_8859_4::$font,
            &iso_8859_9::$font,
            &iso_8859_10::$font,
            &iso_8859_13::$font,
            &iso_8859_14::$font,
            &iso_8859_16::$font,
        ]
    };
}

/// 7 × 13 pixels a character.
pub const SMALL: FontSet = font_set!(FONT_7X13);
/// 9 × 15 pixels.
pub const MEDIUM: FontSet = font_set!(FONT_9X15);
/// 10 × 20 pixels.
pub const LARGE: FontSet = font_set!(FONT_10X20);

/// The font of a set that has that character.
pub fn font_of(set: &FontSet, c: char) -> Option<&'static MonoFont<'static>> {
    set.iter().find(|font| has(font, c)).copied()
}

/// A font gives the place of its question mark for a character that it lacks.
fn has(font: &MonoFont, c: char) -> bool {
    c == '?' || font.glyph_mapping.index(c) != font.glyph_mapping.index('?')
}

/// The text with characters that the fonts have: typographic quotation marks, dashes, spaces and ligatures are written as on a
/// typewriter, accents that follow their letter are left out, and any other character that no font has becomes a question mark.
///
/// ```
/// assert_eq!(mlx_gpt::frame::replace_missing("“Déjà vu” — 你…"), "\"Déjà vu\" - ?...");
/// ```
pub fn replace_missing(text: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    for c in text.chars() {
        match typewritten(c) {
            Some(instead) => replaced.push_str(instead),
            None if c == '\n' || font_of(&SMALL, c).is_some() => replaced.push(c),
            None => replaced.push('?'),
        }
    }
    replaced
}

/// What a typewriter has for a character of typography. Some fonts have some of these; all sizes and languages look alike so.
fn typewritten(c: char) -> Option<&'static str> {
    Some(match c {
        '‘' | '’' | '‚' | '‛' | '′' => "'",
        '“' | '”' | '„' | '‟' | '″' => "\"",
        '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' => "-",
        '…' => "...",
        '•' | '‣' | '◦' => "*",
        '→' => "->",
        '←' => "<-",
        '™' => "(TM)",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        '\t' | '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{3000}' => " ",
        // Accents that combine with the letter before, zero-width characters, and those that only control.
        '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{fe0f}' | '\u{feff}' => "",
        c if c.is_control() && c != '\n' => "",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_the_same_characters() {
        for c in (0..0x600).chain(0x2010..0x2130).filter_map(char::from_u32) {
            let small = font_of(&SMALL, c).is_some();
            assert_eq!(font_of(&MEDIUM, c).is_some(), small, "{c:?}");
            assert_eq!(font_of(&LARGE, c).is_some(), small, "{c:?}");
        }
    }

    #[test]
    fn letters_of_europe_stay_and_others_become_question_marks() {
        for text in [
            "Grüße, Çelik, Œuvre",
            "Příliš žluťoučký kůň",
            "Съешь же ещё",
            "Ξεσκεπάζω",
            "Þórr ŵ €",
        ] {
            assert_eq!(replace_missing(text), text);
        }
        assert_eq!(replace_missing("日本\u{1b}[31m e\u{301}"), "??[31m e");
    }
}

//! Splitting text into chunks, which no merge crosses: the patterns of GPT-2 and GPT-4 as hand-written scanners.
//!
//! A pattern keeps merges from crossing words, so that `dog`, `dog.` and `dog!` share a token. Both are published as
//! regular expressions ([`Pattern::regex`]); a general regex engine spends most of an encoder's time on them (their
//! look-ahead rules out the fast engines), and each alternative is a loop over one class of characters. Tests
//! compare the scanners with the regular expressions.

use super::unicode::{Class, class_at};

/// A published pattern that splits text into chunks before merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// GPT-2's: contractions, letters, digits and signs, each with the space before it.
    Gpt2,
    /// GPT-4's (cl100k): contractions in any case, numbers of at most three digits, line ends kept with signs.
    Gpt4,
}

impl Pattern {
    /// All patterns.
    pub const ALL: [Self; 2] = [Self::Gpt2, Self::Gpt4];

    /// The regular expression that the scanner implements, as in tiktoken 0.14.
    ///
    /// It is written without possessive quantifiers, which regex engines spell differently; they change no match here,
    /// because each one's class of characters is disjoint from what follows it.
    pub fn regex(self) -> &'static str {
        match self {
            Self::Gpt2 => r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+\z|\s+(?!\S)|\s",
            Self::Gpt4 => {
                r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]|\s+(?!\S)|\s"
            }
        }
    }

    /// The chunks of `text`, in order; joined, they are `text` again.
    ///
    /// ```
    /// use mlx_gpt::tokenizer::Pattern;
    ///
    /// let chunks: Vec<&str> = Pattern::Gpt2.split("I'll pay 1234  now!\n").collect();
    /// assert_eq!(chunks, ["I", "'ll", " pay", " 1234", " ", " now", "!", "\n"]);
    /// let chunks: Vec<&str> = Pattern::Gpt4.split("I'LL pay 1234  now!\n").collect();
    /// assert_eq!(chunks, ["I", "'LL", " pay", " ", "123", "4", " ", " now", "!\n"]);
    /// ```
    pub fn split(self, text: &str) -> Chunks<'_> {
        Chunks {
            pattern: self,
            rest: text,
        }
    }

    /// Cuts a long text into segments of about `size` bytes that can be split independently: their chunks, in order, are the
    /// chunks of the whole text.
    ///
    /// In both patterns a space after a letter always begins a new chunk, whatever comes before and after.
    pub fn segments(text: &str, size: usize) -> Vec<&str> {
        let mut segments = Vec::with_capacity(text.len() / size.max(1) + 1);
        let mut rest = text;
        while let Some(tail) = rest.as_bytes().get(size..) {
            let cut = tail
                .windows(2)
                .position(|pair| pair[0].is_ascii_alphabetic() && pair[1] == b' ');
            let Some(cut) = cut else { break };
            let (segment, after) = rest.split_at(size + cut + 1);
            segments.push(segment);
            rest = after;
        }
        if !rest.is_empty() {
            segments.push(rest);
        }
        segments
    }
}

/// The iterator of [`Pattern::split`].
pub struct Chunks<'a> {
    pattern: Pattern,
    rest: &'a str,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let end = match self.pattern {
            Pattern::Gpt2 => gpt2_chunk(self.rest),
            Pattern::Gpt4 => gpt4_chunk(self.rest),
        };
        let (chunk, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(chunk)
    }
}

/// Where the first chunk of GPT-2's pattern ends, in bytes. `text` is not empty.
#[inline]
fn gpt2_chunk(text: &str) -> usize {
    let bytes = text.as_bytes();
    // '(?:[sdmt]|ll|ve|re)
    if bytes[0] == b'\'' {
        match bytes[1..] {
            [b's' | b'd' | b'm' | b't', ..] => return 2,
            [b'l', b'l', ..] | [b'v', b'e', ..] | [b'r', b'e', ..] => return 3,
            _ => {}
        }
    }
    // ` ?\p{L}+`, ` ?\p{N}+` and ` ?[^\s\p{L}\p{N}]+`
    let start = usize::from(bytes[0] == b' ');
    match class_at(text, start) {
        Some((class, _)) if class != Class::Space => run(text, start, class),
        _ => spaces(text, run(text, 0, Class::Space)),
    }
}

/// Where the first chunk of GPT-4's pattern ends, in bytes. `text` is not empty.
#[inline]
fn gpt4_chunk(text: &str) -> usize {
    let bytes = text.as_bytes();
    if bytes[0] == b'\''
        && let Some(end) = contraction_of_any_case(&bytes[1..])
    {
        return 1 + end;
    }
    let Some((class, length)) = class_at(text, 0) else {
        return 0;
    };
    match class {
        Class::Letter => return run(text, 0, Class::Letter),
        // \p{N}{1,3}
        Class::Number => {
            let mut end = length;
            for _ in 0..2 {
                match class_at(text, end) {
                    Some((Class::Number, length)) => end += length,
                    _ => break,
                }
            }
            return end;
        }
        Class::Space | Class::Other => {}
    }
    // [^\r\n\p{L}\p{N}]?\p{L}+ of which the first is neither letter nor number
    let next = class_at(text, length).map(|(class, _)| class);
    if !matches!(bytes[0], b'\r' | b'\n') && next == Some(Class::Letter) {
        return run(text, length, Class::Letter);
    }
    // ` ?[^\s\p{L}\p{N}]+[\r\n]*`
    if class == Class::Other || (bytes[0] == b' ' && next == Some(Class::Other)) {
        let mut end = run(text, length, Class::Other);
        while matches!(bytes.get(end), Some(b'\r' | b'\n')) {
            end += 1;
        }
        return end;
    }
    // \s+\z, then \s*[\r\n]
    let end = run(text, 0, Class::Space);
    if end < bytes.len()
        && let Some(line_end) = bytes[..end].iter().rposition(|byte| matches!(byte, b'\r' | b'\n'))
    {
        return line_end + 1;
    }
    spaces(text, end)
}

/// `\s+\z|\s+(?!\S)|\s` on the white space up to `end`: all of it at the end of the text; else all but its last
/// character, which belongs to the next word; else the only one.
fn spaces(text: &str, end: usize) -> usize {
    if end == text.len() {
        return end;
    }
    match text[..end].char_indices().next_back() {
        Some((last, _)) if last > 0 => last,
        _ => end,
    }
}

/// The end of the run of one class that begins at `start`.
#[inline]
fn run(text: &str, start: usize, class: Class) -> usize {
    let mut end = start;
    while let Some((next, length)) = class_at(text, end)
        && next == class
    {
        end += length;
    }
    end
}

/// The length of `(?i:[sdmt]|ll|ve|re)` where `bytes` begin with it. Unicode folds the long ſ (U+017F) to s.
fn contraction_of_any_case(bytes: &[u8]) -> Option<usize> {
    let lower = |at: usize| bytes.get(at).map(u8::to_ascii_lowercase);
    match (lower(0)?, lower(1)) {
        (b's' | b'd' | b'm' | b't', _) => Some(1),
        (b'l', Some(b'l')) | (b'v' | b'r', Some(b'e')) => Some(2),
        _ if bytes.starts_with("ſ".as_bytes()) => Some("ſ".len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use fancy_regex::Regex;
    use proptest::prelude::*;

    use super::*;

    /// tiktoken 0.14's own words for the two patterns.
    fn tiktoken(pattern: Pattern) -> Regex {
        Regex::new(match pattern {
            Pattern::Gpt2 => r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
            Pattern::Gpt4 => {
                r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
            }
        })
        .unwrap()
    }

    fn matches<'a>(regex: &Regex, text: &'a str) -> Vec<&'a str> {
        regex.find_iter(text).map(|found| found.unwrap().as_str()).collect()
    }

    /// Text in which every alternative has its turn.
    fn nasty() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => "[a-zA-Z]{1,4}",
            3 => "'(s|S|ſ|t|LL|lL|Ve|re|x|')",
            3 => "[ \t\r\n\u{b}\u{85}\u{a0}\u{2003}\u{2028}\u{3000}]{1,4}",
            2 => "[0-9²Ⅷ٣½]{1,5}",
            2 => "[!-/:-@\u{301}\u{200d}👍🏽ʼ’]{1,3}",
            1 => "[\u{0}-\u{1f}\u{7f}-\u{9f}]",
            2 => "\\PC{1,3}",
            2 => any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
    }

    static REGEXES: LazyLock<Vec<(Pattern, [Regex; 2])>> = LazyLock::new(|| {
        let both = |pattern: Pattern| [tiktoken(pattern), Regex::new(pattern.regex()).unwrap()];
        Pattern::ALL.map(|pattern| (pattern, both(pattern))).into()
    });

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_scanners_are_the_regular_expressions(text in nasty()) {
            for (pattern, regexes) in REGEXES.iter() {
                let chunks: Vec<&str> = pattern.split(&text).collect();
                for regex in regexes {
                    prop_assert_eq!(&chunks, &matches(regex, &text), "{:?}", pattern);
                }
            }
        }

        #[test]
        fn segments_split_as_the_whole(text in nasty(), size in 1usize..20) {
            for pattern in Pattern::ALL {
                let whole: Vec<&str> = pattern.split(&text).collect();
                let parts: Vec<&str> =
                    Pattern::segments(&text, size).into_iter().flat_map(|segment| pattern.split(segment)).collect();
                prop_assert_eq!(&whole, &parts);
            }
        }
    }

    #[test]
    fn every_character_is_classed_as_the_regular_expressions_class_it() {
        for pattern in Pattern::ALL {
            let regex = tiktoken(pattern);
            for start in (0..0x11_0000).step_by(0x400) {
                // Between a letter and a digit, each character's class shows in where the cuts are.
                let text: String = (start..start + 0x400)
                    .filter_map(char::from_u32)
                    .flat_map(|character| ['a', character, '1', character, '!', character])
                    .collect();
                assert_eq!(pattern.split(&text).collect::<Vec<_>>(), matches(&regex, &text));
            }
        }
    }
}

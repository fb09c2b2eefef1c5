//! What can happen to a file: bytes flipped, cut, moved and repeated; in JSON, values put in the place of others.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

/// One change.
#[derive(Clone, Debug)]
pub enum Mutation {
    Flip(Index, u8),
    Truncate(Index),
    /// So many bytes from a place on.
    Delete(Index, usize),
    /// A stretch copied to another place.
    Splice(Index, usize, Index),
    /// Two stretches of one length changing places.
    Swap(Index, Index, usize),
    /// A stretch repeated.
    Grow(Index, usize, usize),
    /// Something that opens, so many times.
    Nest(Index, usize, Index),
    /// A number, wherever it stands, replaced by another.
    Number(Index, Index),
    /// A text that means something to somebody put in.
    Insert(Index, Index),
    /// A JSON value replaced by an odd one.
    Odd(Index, Index),
    /// A JSON value replaced by another of the same file.
    Copy(Index, Index),
    /// A JSON value removed.
    Remove(Index),
    /// A member of a JSON object written twice, the second time with another value.
    Twice(Index, Index),
}

const NUMBERS: [&str; 16] = [
    "0",
    "-1",
    "1",
    "2",
    "1.5",
    "-0.0",
    "1e400",
    "1e-400",
    "255",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
];

const TEXTS: [&str; 28] = [
    "null",
    "NaN",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\u{1b}[2J",
    "\u{202e}",
    "\u{feff}",
    "\r\n",
    "\n\n",
    "\0",
    "../",
    "/etc/passwd",
    "[[[[[[[[",
    "{\"a\":",
    "}",
    ",",
    ":",
    "a.b.c.d = 1\n",
    "[[a]]\n",
    "[a.b]\n",
    "(?:(?:(?:a{99}){99}){99})",
    "(a|a)*\\1(?=",
    "(.*)*(.*)*x",
    "cos\nsystem\n(X\x02\0\0\0lstR",
    "]2a2a2a2a2a2a2a2a",
    "}((((((((",
];

/// Values that are not what is expected somewhere.
fn odd(which: &Index) -> Value {
    let nested = |depth: usize| (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    let sequences = |list: &str, depth: usize| {
        (0..depth).fold(
            Value::Null,
            |inner, _| serde_json::json!({ "type": "Sequence", list: [inner] }),
        )
    };
    let texts = [
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a/b",
        "\u{1b}[31m",
        "\0",
        "é",
        "字",
        "x y",
        "(",
        "[\\s\\S]",
        "a{9999}",
    ];
    let mut values: Vec<Value> = texts.into_iter().map(Value::from).collect();
    values.extend(NUMBERS.iter().filter_map(|number| serde_json::from_str(number).ok()));
    values.extend([
        Value::Null,
        true.into(),
        false.into(),
        Value::Array(vec![]),
        Value::Object(serde_json::Map::new()),
        nested(3),
        nested(120),
        sequences("normalizers", 50),
        sequences("pretokenizers", 50),
        sequences("decoders", 50),
        "(".repeat(5000).into(),
        "x".repeat(5000).into(),
        Value::Array(vec![0.into(); 2000]),
        serde_json::json!({ "type": "Sequence", "normalizers": [], "pretokenizers": [], "decoders": [], "processors": [] }),
    ]);
    which.get(&values).clone()
}

/// Some changes, one after the other.
pub fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let at = any::<Index>;
    let length = || prop_oneof![4 => 1usize..16, 1 => 1usize..2000];
    let one = prop_oneof![
        3 => (at(), any::<u8>()).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        1 => at().prop_map(Mutation::Truncate),
        1 => (at(), length()).prop_map(|(at, length)| Mutation::Delete(at, length)),
        2 => (at(), length(), at()).prop_map(|(from, length, to)| Mutation::Splice(from, length, to)),
        1 => (at(), at(), length()).prop_map(|(a, b, length)| Mutation::Swap(a, b, length)),
        1 => (at(), 1usize..64, 2usize..400).prop_map(|(at, length, times)| Mutation::Grow(at, length, times)),
        1 => (at(), 1usize..20_000, at()).prop_map(|(at, depth, what)| Mutation::Nest(at, depth, what)),
        3 => (at(), at()).prop_map(|(at, number)| Mutation::Number(at, number)),
        2 => (at(), at()).prop_map(|(at, text)| Mutation::Insert(at, text)),
        4 => (at(), at()).prop_map(|(at, odd)| Mutation::Odd(at, odd)),
        3 => (at(), at()).prop_map(|(at, from)| Mutation::Copy(at, from)),
        1 => at().prop_map(Mutation::Remove),
        1 => (at(), at()).prop_map(|(at, odd)| Mutation::Twice(at, odd)),
    ];
    prop::collection::vec(one, 1..5)
}

/// What a file is made of, for changes that keep to its form.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    Plain,
    /// A JSON header after its length in eight bytes.
    Safetensors,
}

/// `bytes` after a change.
pub fn mutated(bytes: &[u8], mutation: &Mutation, form: Form) -> Vec<u8> {
    if form == Form::Safetensors
        && matches!(
            mutation,
            Mutation::Number(..) | Mutation::Odd(..) | Mutation::Copy(..) | Mutation::Remove(_) | Mutation::Twice(..)
        )
        && let Some((length, rest)) = bytes.split_first_chunk()
        && let Some((header, data)) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)
    {
        let header = mutated(header, mutation, Form::Plain);
        return [&(header.len() as u64).to_le_bytes()[..], &header, data].concat();
    }
    let mut bytes = bytes.to_vec();
    if bytes.is_empty() {
        return bytes;
    }
    let len = bytes.len();
    match mutation {
        Mutation::Flip(at, bits) => bytes[at.index(len)] ^= bits,
        Mutation::Truncate(at) => bytes.truncate(at.index(len)),
        Mutation::Delete(at, length) => {
            let at = at.index(len);
            bytes.drain(at..len.min(at + length));
        }
        Mutation::Splice(from, length, to) => {
            let from = from.index(len);
            let stretch = bytes[from..len.min(from + length)].to_vec();
            let to = to.index(len);
            bytes.splice(to..to, stretch);
        }
        Mutation::Swap(a, b, length) => {
            let (a, b) = (a.index(len), b.index(len));
            for at in 0..(*length).min(len - a.max(b)) {
                bytes.swap(a + at, b + at);
            }
        }
        Mutation::Grow(at, length, times) => {
            let at = at.index(len);
            let stretch = bytes[at..len.min(at + length)].repeat(*times);
            bytes.splice(at..at, stretch);
        }
        Mutation::Nest(at, depth, what) => {
            let at = at.index(len);
            let opening = what.get(&["[", "{\"a\":", "(", "a.", "{a={"]);
            bytes.splice(at..at, opening.repeat(*depth).into_bytes());
        }
        Mutation::Number(at, number) => {
            let number = number.get(&NUMBERS).bytes();
            let numbers: Vec<_> = bytes
                .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
                .scan(0, |end, run| {
                    *end += run.len();
                    Some((*end - run.len()..*end, run[0].is_ascii_digit()))
                })
                .filter_map(|(range, is_number)| is_number.then_some(range))
                .collect();
            if !numbers.is_empty() {
                bytes.splice(at.get(&numbers).clone(), number);
            }
        }
        Mutation::Insert(at, text) => {
            let at = at.index(len);
            bytes.splice(at..at, text.get(&TEXTS).bytes());
        }
        Mutation::Odd(at, _) | Mutation::Copy(at, _) | Mutation::Remove(at) | Mutation::Twice(at, _) => {
            if let Ok(mut json) = serde_json::from_slice::<Value>(&bytes) {
                return change(&mut json, mutation).into_bytes();
            }
            // Where there is no JSON, or none any more, a bit.
            let at = at.index(len);
            bytes[at] ^= 1 << (at % 8);
        }
    }
    bytes
}

fn change(json: &mut Value, mutation: &Mutation) -> String {
    let count = count(json);
    match mutation {
        Mutation::Odd(at, which) => put(json, at.index(count), odd(which)),
        Mutation::Copy(at, from) => {
            if let Some(value) = node(json, &mut from.index(count)).cloned() {
                put(json, at.index(count), value);
            }
        }
        Mutation::Remove(at) => remove(json, &mut at.index(count)),
        Mutation::Twice(at, which) => {
            // `Value` cannot say it, so that the text does.
            let text = json.to_string();
            let members: Vec<usize> = text.match_indices(",\"").map(|(at, _)| at).collect();
            if members.is_empty() {
                return text;
            }
            let at = *at.get(&members);
            let name: String = text[at + 2..].chars().take_while(|&c| c != '"').collect();
            return format!("{},\"{name}\":{}{}", &text[..at], odd(which), &text[at..]);
        }
        _ => {}
    }
    json.to_string()
}

fn children(json: &mut Value) -> Box<dyn Iterator<Item = &mut Value> + '_> {
    match json {
        Value::Array(values) => Box::new(values.iter_mut()),
        Value::Object(members) => Box::new(members.values_mut()),
        _ => Box::new(std::iter::empty()),
    }
}

/// How many values there are, those inside of others too.
fn count(json: &mut Value) -> usize {
    1 + children(json).map(count).sum::<usize>()
}

/// The value number `at`, from the outermost on.
fn node<'a>(json: &'a mut Value, at: &mut usize) -> Option<&'a mut Value> {
    if *at == 0 {
        return Some(json);
    }
    *at -= 1;
    children(json).find_map(|child| node(child, at))
}

fn put(json: &mut Value, mut at: usize, value: Value) {
    if let Some(node) = node(json, &mut at) {
        *node = value;
    }
}

/// Removes a member or an element of the value number `at`.
fn remove(json: &mut Value, at: &mut usize) {
    let which = *at;
    match node(json, at) {
        Some(Value::Array(values)) if !values.is_empty() => {
            values.remove(which % values.len());
        }
        Some(Value::Object(members)) if !members.is_empty() => {
            if let Some(key) = members.keys().nth(which % members.len()).cloned() {
                members.shift_remove(&key);
            }
        }
        _ => {}
    }
}

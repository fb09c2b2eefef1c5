//! What the pages ask for: runs and their training, tokens with their alternatives, the inside of a model, tokenizers, the course.

pub mod course;
pub mod inside;
pub mod needs;
pub mod play;
pub mod runs;
pub mod tokens;
pub mod training;
pub mod vectors;

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::http::answer::Failure;

/// Longest body of a request that holds no text to train on.
const BODY_BYTES: usize = 1 << 19;

/// A text in a body.
fn text<'a>(body: &'a Map<String, Value>, name: &str, most: usize) -> Result<&'a str, Failure> {
    match body.get(name) {
        Some(Value::String(text)) if text.len() <= most => Ok(text),
        Some(Value::String(_)) => Err(Failure::param(
            name,
            format!("{name} is longer than {most} bytes; take less of it"),
        )),
        _ => Err(Failure::param(name, format!("{name} must be a text"))),
    }
}

/// The parameters behind the `?` of an address. Those that the pages send need no decoding but for `/` and blanks.
fn query(query: Option<&str>) -> HashMap<String, String> {
    let pairs = query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), percent_decoded(value)))
        .collect()
}

/// `%2F` to `/`, and so on; a `%` without two digits stays.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_decoded() {
        let parameters = query(Some("run=runs%2Fa%20b&from=12&odd=%2&last=%C3%A9%"));
        assert_eq!(parameters["run"], "runs/a b");
        assert_eq!(parameters["from"], "12");
        assert_eq!(parameters["odd"], "%2");
        assert_eq!(parameters["last"], "é%");
        assert!(query(None).is_empty());
    }
}

//! Day 12: whether a text holds what a model is to be tested on.

use std::collections::HashSet;

// ANCHOR: shared_windows
/// How many windows of `length` bytes of `unseen` occur anywhere in `text`: 0 if a model that learned `text` cannot have met a passage
/// of that length of `unseen`.
///
/// # Exercise
/// The windows of a text overlap: `as_bytes().windows(length)`. Collect those of one text in a `HashSet`, and count.
pub fn shared_windows(text: &str, unseen: &str, length: usize) -> usize {
    let wanted: HashSet<&[u8]> = unseen.as_bytes().windows(length).collect();
    let mut found: HashSet<&[u8]> = HashSet::new();
    found.extend(text.as_bytes().windows(length).filter(|window| wanted.contains(window)));
    let counted = unseen.as_bytes().windows(length);
    counted.filter(|window| found.contains(window)).count()
}
// ANCHOR_END: shared_windows

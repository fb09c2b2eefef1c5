//! Day 1: text as bytes, and byte pairs as tokens.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Two tokens side by side.
pub type Pair = (u32, u32);

/// The tokens of the single bytes are 0 to 255; the first merge makes token 256.
pub const BYTES: u32 = 256;

// ANCHOR: utf8
/// A code point in UTF-8: one byte `0xxxxxxx` below 0x80, two, `110xxxxx 10xxxxxx`, below 0x800, three, `1110xxxx …`, below
/// 0x10000, else four, `11110xxx …`; the x are its bits.
///
/// # Exercise
/// Six bits go into each byte after the first, the last six into the last: `code_point >> 6` drops them, `code_point & 0x3F` has
/// only them. `|` joins bits: `0x80 | …`; the first byte begins with `0xC0`, `0xE0` or `0xF0`.
pub fn utf8(code_point: u32) -> Vec<u8> {
    let following = |shift: u32| 0x80 | (code_point >> shift & 0x3F);
    let bytes = match code_point {
        0..0x80 => vec![code_point],
        0x80..0x800 => vec![0xC0 | code_point >> 6, following(0)],
        0x800..0x10000 => vec![0xE0 | code_point >> 12, following(6), following(0)],
        _ => vec![0xF0 | code_point >> 18, following(12), following(6), following(0)],
    };
    bytes.into_iter().map(|byte| byte as u8).collect()
}
// ANCHOR_END: utf8

// ANCHOR: count
/// How often each pair of neighbours occurs in `ids`.
///
/// # Exercise
/// All neighbours are `ids.windows(2)`; `*counts.entry(…).or_insert(0) += 1` counts one.
pub fn count_pairs(ids: &[u32]) -> BTreeMap<Pair, usize> {
    let mut counts = BTreeMap::new();
    for pair in ids.windows(2) {
        *counts.entry((pair[0], pair[1])).or_insert(0) += 1;
    }
    counts
}
// ANCHOR_END: count

// ANCHOR: most_frequent
/// The pair that occurs most often, of equally frequent ones the lowest; none if there are no pairs.
///
/// # Exercise
/// `counts.iter()` goes from the lowest pair to the highest, and `min_by_key` takes the first of equals. `Reverse(count)` is
/// lowest where the count is highest.
pub fn most_frequent(counts: &BTreeMap<Pair, usize>) -> Option<Pair> {
    let most = counts.iter().min_by_key(|&(_, count)| Reverse(count));
    most.map(|(&pair, _)| pair)
}
// ANCHOR_END: most_frequent

// ANCHOR: merge
/// `ids` with every `pair` replaced by `new`, from left to right.
///
/// # Exercise
/// Walk through the ids: where the pair begins, push `new` and go on by two, elsewhere push the id and go on by one.
/// `ids[at..].starts_with(&[…])` says whether the pair begins there.
pub fn merge(ids: &[u32], pair: Pair, new: u32) -> Vec<u32> {
    let mut merged = Vec::new();
    let mut at = 0;
    while at < ids.len() {
        if ids[at..].starts_with(&[pair.0, pair.1]) {
            merged.push(new);
            at += 2;
        } else {
            merged.push(ids[at]);
            at += 1;
        }
    }
    merged
}
// ANCHOR_END: merge

// ANCHOR: train
/// Learns up to `merges` merges from the bytes of `text`, fewer where no pair is left. Merge number i, counted from 0, makes
/// token 256 + i.
///
/// # Exercise
/// Start from the bytes as ids; then count, take the most frequent pair, merge it everywhere, and keep it; again and again.
pub fn train(text: &str, merges: usize) -> Vec<Pair> {
    let mut ids: Vec<u32> = text.bytes().map(u32::from).collect();
    let mut learned = Vec::new();
    for new in (BYTES..).take(merges) {
        let Some(pair) = most_frequent(&count_pairs(&ids)) else {
            break;
        };
        ids = merge(&ids, pair, new);
        learned.push(pair);
    }
    learned
}
// ANCHOR_END: train

// ANCHOR: encode
/// The tokens of `text`: its bytes, with all merges applied in the order in which they were learned.
///
/// # Exercise
/// As training, with the pairs given. `(BYTES..).zip(merges)` counts the new tokens along.
pub fn encode(text: &str, merges: &[Pair]) -> Vec<u32> {
    let mut ids: Vec<u32> = text.bytes().map(u32::from).collect();
    for (new, &pair) in (BYTES..).zip(merges) {
        ids = merge(&ids, pair, new);
    }
    ids
}
// ANCHOR_END: encode

// ANCHOR: decode
/// The text of `ids`. Bytes that are not UTF-8 become `\u{fffd}`.
///
/// # Exercise
/// List the bytes of every token: those of the 256 bytes, then for each merge those of its two tokens, one after the other.
/// Join the bytes of the ids; `String::from_utf8_lossy` makes text of them.
pub fn decode(ids: &[u32], merges: &[Pair]) -> String {
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    for &(left, right) in merges {
        tokens.push([&tokens[left as usize][..], &tokens[right as usize]].concat());
    }
    let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokens[id as usize].clone()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
// ANCHOR_END: decode

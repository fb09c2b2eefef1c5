//! The tokens of a byte-level BPE by their bytes, and merging one chunk by them.
//!
//! A merge needs no table of pairs: two neighbours merge into the token that has their bytes, if there is one, and the
//! lowest id merges first, because tokens are numbered in the order of their merges. For merges learned by training this
//! gives the same result as applying the merges one by one (`recover.rs` checks it for merges of other origin).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

/// No token.
const NONE: u32 = u32::MAX;

/// Chunks longer than this, in bytes, merge by a heap: n log n instead of n².
const HEAP_THRESHOLD: usize = 128;

/// Tokens of at most this many bytes are looked up by their bytes in one word, without following a pointer.
const INLINE_BYTES: usize = 15;

/// Ids by bytes. Among tokens of more than one byte, a lower id merges first.
#[derive(Clone, Debug)]
pub struct Ranks {
    short: FxHashMap<u128, u32>,
    long: FxHashMap<Box<[u8]>, u32>,
    bytes: [u32; 256],
    longest: usize,
}

impl Ranks {
    /// The ranks of tokens given as bytes and ids. A byte without a token has the id [`u32::MAX`].
    pub fn new<'a>(tokens: impl ExactSizeIterator<Item = (&'a [u8], u32)>) -> Self {
        let mut ranks = Self {
            short: FxHashMap::with_capacity_and_hasher(tokens.len(), Default::default()),
            long: FxHashMap::default(),
            bytes: [NONE; 256],
            longest: 0,
        };
        for (token, id) in tokens {
            if let [byte] = token {
                ranks.bytes[usize::from(*byte)] = id;
            }
            if token.len() <= INLINE_BYTES {
                ranks.short.insert(key(token), id);
            } else {
                ranks.long.insert(token.into(), id);
            }
            ranks.longest = ranks.longest.max(token.len());
        }
        ranks
    }

    /// The first byte without a token.
    pub fn missing_byte(&self) -> Option<u8> {
        (0..=u8::MAX).find(|&byte| self.bytes[usize::from(byte)] == NONE)
    }

    /// The token that has these bytes.
    #[inline]
    pub fn get(&self, bytes: &[u8]) -> Option<u32> {
        if bytes.len() <= INLINE_BYTES {
            self.short.get(&key(bytes)).copied()
        } else if bytes.len() <= self.longest {
            self.long.get(bytes).copied()
        } else {
            None
        }
    }

    /// Appends the tokens of one chunk of text.
    #[inline]
    pub fn encode_chunk(&self, chunk: &[u8], ids: &mut Vec<u32>) {
        match self.get(chunk) {
            // Merging a token's own bytes gives that token.
            Some(id) => ids.push(id),
            None => self.merge(chunk, NONE, |token| ids.push(self.id_of(token))),
        }
    }

    /// The id of a part that [`merge`](Self::merge) left: a token, or one byte.
    fn id_of(&self, part: &[u8]) -> u32 {
        match part {
            [byte] => self.bytes[usize::from(*byte)],
            _ => self.get(part).unwrap_or(NONE),
        }
    }

    /// Merges a chunk by all tokens below `limit`, and calls `part` with the resulting parts from left to right.
    pub fn merge<'a>(&self, chunk: &'a [u8], limit: u32, part: impl FnMut(&'a [u8])) {
        if chunk.len() <= HEAP_THRESHOLD {
            self.merge_by_scan(chunk, limit, part);
        } else {
            self.merge_by_heap(chunk, limit, part);
        }
    }

    /// The id of the token that two neighbours, together `bytes`, merge into.
    #[inline]
    fn rank(&self, bytes: &[u8], limit: u32) -> u32 {
        match self.get(bytes) {
            Some(id) if id < limit => id,
            _ => NONE,
        }
    }

    /// Finds the lowest rank by a linear scan, which is fastest for short chunks.
    fn merge_by_scan<'a>(&self, chunk: &'a [u8], limit: u32, mut part: impl FnMut(&'a [u8])) {
        // Start of each part, and the rank of its merge with the next one. The last entry is the end.
        let mut starts: [u8; HEAP_THRESHOLD + 1] = std::array::from_fn(|at| at as u8);
        let mut ranks = [NONE; HEAP_THRESHOLD + 1];
        let mut parts = chunk.len();
        for at in 1..parts {
            ranks[at - 1] = self.rank(&chunk[at - 1..=at], limit);
        }
        while parts > 1 {
            let mut lowest = 0;
            for at in 1..parts - 1 {
                if ranks[at] < ranks[lowest] {
                    lowest = at;
                }
            }
            if ranks[lowest] == NONE {
                break;
            }
            starts.copy_within(lowest + 2..=parts, lowest + 1);
            ranks.copy_within(lowest + 1..parts, lowest);
            parts -= 1;
            // The merged part has new ranks with its two neighbours.
            let rank_at = |at: usize| {
                if at + 2 <= parts {
                    self.rank(&chunk[usize::from(starts[at])..usize::from(starts[at + 2])], limit)
                } else {
                    NONE
                }
            };
            ranks[lowest] = rank_at(lowest);
            if lowest > 0 {
                ranks[lowest - 1] = rank_at(lowest - 1);
            }
        }
        for at in 0..parts {
            part(&chunk[usize::from(starts[at])..usize::from(starts[at + 1])]);
        }
    }

    /// Keeps the possible merges in a heap and the parts in a linked list, for long chunks.
    fn merge_by_heap<'a>(&self, chunk: &'a [u8], limit: u32, mut part: impl FnMut(&'a [u8])) {
        let end = chunk.len();
        // For the part that starts at a byte: its end, the start of the one before it, and the rank of its merge with the
        // next one, which is NONE once it is merged into the part before it.
        let mut ends: Vec<usize> = (1..=end).collect();
        let mut before: Vec<usize> = (0..end).map(|at| at.saturating_sub(1)).collect();
        let mut ranks: Vec<u32> = chunk.windows(2).map(|pair| self.rank(pair, limit)).collect();
        ranks.push(NONE);
        let mut heap: BinaryHeap<Reverse<(u32, usize)>> = (0..end)
            .filter(|&at| ranks[at] != NONE)
            .map(|at| Reverse((ranks[at], at)))
            .collect();
        while let Some(Reverse((rank, at))) = heap.pop() {
            // An entry is stale if its part has changed since it was pushed.
            if ranks[at] != rank {
                continue;
            }
            let merged = ends[at];
            ranks[merged] = NONE;
            ends[at] = ends[merged];
            if ends[at] < end {
                before[ends[at]] = at;
            }
            let mut renew = |from: usize| {
                ranks[from] = match ends[from] {
                    next if next < end => self.rank(&chunk[from..ends[next]], limit),
                    _ => NONE,
                };
                if ranks[from] != NONE {
                    heap.push(Reverse((ranks[from], from)));
                }
            };
            renew(at);
            if at > 0 {
                renew(before[at]);
            }
        }
        let mut at = 0;
        while at < end {
            part(&chunk[at..ends[at]]);
            at = ends[at];
        }
    }
}

/// Up to [`INLINE_BYTES`] bytes and their number in one word.
#[inline]
fn key(bytes: &[u8]) -> u128 {
    let mut word = [0; 16];
    word[..bytes.len()].copy_from_slice(bytes);
    word[INLINE_BYTES] = bytes.len() as u8;
    u128::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_byte_without_token_is_found() {
        let ranks = Ranks::new([(b"a".as_slice(), 0), (b"ab", 1)].into_iter());
        assert_eq!(ranks.missing_byte(), Some(0));
        assert_eq!(
            (ranks.get(b"ab"), ranks.get(b"b"), ranks.get(b"abababababababababab")),
            (Some(1), None, None)
        );
    }

    proptest! {
        #[test]
        fn scan_and_heap_merge_alike(
            tokens in prop::collection::btree_set("[ab]{2,5}|[a-c]{2,20}", 0..30),
            chunk in "[ab]{1,128}|[a-c]{1,60}",
            limit in 0u32..40,
        ) {
            // Any tokens at all, not just those that training would make, in an order that is not theirs.
            let bytes = ["a", "b", "c"].map(String::from);
            let tokens: Vec<String> = bytes.into_iter().chain(tokens.into_iter().rev()).collect();
            let ranks = Ranks::new(tokens.iter().map(String::as_bytes).zip(0u32..).collect::<Vec<_>>().into_iter());
            let (mut by_scan, mut by_heap) = (Vec::new(), Vec::new());
            ranks.merge_by_scan(chunk.as_bytes(), limit, |part| by_scan.push(part));
            ranks.merge_by_heap(chunk.as_bytes(), limit, |part| by_heap.push(part));
            prop_assert_eq!(by_scan, by_heap);
        }
    }
}

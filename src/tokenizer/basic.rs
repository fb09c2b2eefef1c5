//! Byte-pair encoding as it is taught: readable in one sitting, slow, and the oracle that the fast version is tested
//! against. After Karpathy's minbpe (`basic.py`, `regex.py`) and "Let's build the GPT Tokenizer".
//!
//! A text is its UTF-8 bytes, so 256 tokens can express any text. Training finds the most frequent pair of neighbours,
//! gives it a new token, replaces the pair by that token everywhere, and repeats. Encoding applies the same merges in the
//! order in which they were learned.

use std::collections::BTreeMap;

use super::Pattern;

/// Two neighbouring tokens.
pub type Pair = (u32, u32);

/// The tokens of the single bytes are 0 to 255; merge `i` makes token `256 + i`.
pub const BYTES: u32 = 256;

/// A byte-level BPE tokenizer, the simple way.
///
/// ```
/// use mlx_gpt::tokenizer::basic::Basic;
///
/// let tokenizer = Basic::train("aaabdaaabac", 256 + 3, None);
/// assert_eq!(tokenizer.encode("aaabdaaabac"), [258, 100, 258, 97, 99]);
/// assert_eq!(tokenizer.decode(&[258, 100, 258, 97, 99]), "aaabdaaabac");
/// ```
pub struct Basic {
    /// The merges in the order in which they were learned.
    pub merges: Vec<Pair>,
    pattern: Option<Pattern>,
}

impl Basic {
    /// Learns merges from `text` until there are `vocab_size` tokens or nothing is left to merge. No merge crosses the
    /// chunks of `pattern`.
    ///
    /// Of several pairs that are equally frequent, the one with the lowest ids is merged, the left id first: so the
    /// result depends on the text alone.
    pub fn train(text: &str, vocab_size: usize, pattern: Option<Pattern>) -> Self {
        let mut tokenizer = Self {
            merges: Vec::new(),
            pattern,
        };
        let mut chunks = tokenizer.chunks(text);
        // ANCHOR: train
        for new in BYTES..vocab_size as u32 {
            let Some((pair, _)) = most_frequent(&count_pairs(&chunks)) else {
                break;
            };
            for chunk in &mut chunks {
                *chunk = merge(chunk, pair, new);
            }
            tokenizer.merges.push(pair);
        }
        // ANCHOR_END: train
        tokenizer
    }

    /// The tokenizer of merges learned elsewhere.
    pub fn from_merges(merges: Vec<Pair>, pattern: Pattern) -> Self {
        Self {
            merges,
            pattern: Some(pattern),
        }
    }

    /// The ids of `text`.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        // ANCHOR: encode
        for mut chunk in self.chunks(text) {
            for (new, &pair) in (BYTES..).zip(&self.merges) {
                chunk = merge(&chunk, pair, new);
            }
            ids.extend(chunk);
        }
        // ANCHOR_END: encode
        ids
    }

    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Panics
    /// On an id that is out of range.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            self.push_bytes(id, &mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn push_bytes(&self, id: u32, bytes: &mut Vec<u8>) {
        if id < BYTES {
            bytes.push(id as u8);
        } else {
            let (left, right) = self.merges[(id - BYTES) as usize];
            self.push_bytes(left, bytes);
            self.push_bytes(right, bytes);
        }
    }

    fn chunks(&self, text: &str) -> Vec<Vec<u32>> {
        let ids = |chunk: &str| chunk.bytes().map(u32::from).collect();
        match self.pattern {
            Some(pattern) => pattern.split(text).map(ids).collect(),
            None => vec![ids(text)],
        }
    }
}

// ANCHOR: count
/// How often each pair of neighbours occurs, in the order of the pairs.
pub fn count_pairs(chunks: &[Vec<u32>]) -> BTreeMap<Pair, usize> {
    let mut counts = BTreeMap::new();
    for pair in chunks.iter().flat_map(|chunk| chunk.windows(2)) {
        *counts.entry((pair[0], pair[1])).or_default() += 1;
    }
    counts
}
// ANCHOR_END: count

/// The pair that occurs most often and its count; of equals the one with the lowest ids.
pub fn most_frequent(counts: &BTreeMap<Pair, usize>) -> Option<(Pair, usize)> {
    // `min_by_key` takes the first of equals, and the map is in the order of its pairs.
    let most = counts.iter().min_by_key(|&(_, count)| std::cmp::Reverse(count));
    most.map(|(&pair, &count)| (pair, count))
}

// ANCHOR: merge
/// `ids` with every `pair` replaced by `new`, from left to right. `train.rs` has the same in place.
pub fn merge(ids: &[u32], pair: Pair, new: u32) -> Vec<u32> {
    let mut merged = Vec::with_capacity(ids.len());
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

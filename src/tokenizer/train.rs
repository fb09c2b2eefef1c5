//! Learning merges, fast: the result of counting all pairs for each merge, without a pass over the text for each.
//!
//! - Equal chunks are merged once: the text becomes its distinct chunks, each with its count.
//! - The counts of pairs are kept up to date; a merge touches only the chunks that have its pair.
//! - The most frequent pair is on top of a heap. Counts only fall once they are in it, so a stale entry is too high, never
//!   too low: it is pushed back with its true count.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::once;

use anyhow::Result;
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{BYTES, Pair, Pattern, PreTokenizer};

/// Bytes that one thread counts at a time.
const SEGMENT: usize = 1 << 18;

/// A distinct chunk of the text: its tokens and its count.
struct Chunk {
    tokens: Vec<u32>,
    count: i64,
}

/// Learns up to `merges` merges from `text`; fewer only where nothing is left to merge. Of equally frequent pairs, the
/// one with the lowest ids comes first. `progress` is called with the number of merges after each.
///
/// ```
/// use mlx_gpt::tokenizer::{Pattern, train_merges};
///
/// // " a" occurs three times, and so does "ab" and " ab": ties go to the lower ids, here (32, 97).
/// let merges = train_merges("x ab ab ab", Pattern::Gpt2, 2, |_| ());
/// assert_eq!(merges, [(32, 97), (256, 98)]);
/// ```
pub fn train_merges(text: &str, pattern: Pattern, merges: usize, progress: impl FnMut(usize)) -> Vec<Pair> {
    let segments = Pattern::segments(text, SEGMENT);
    learn(count(&segments, |segment| pattern.split(segment)), merges, progress)
}

/// As [`train_merges`], for several texts that no merge crosses, split by any pre-tokenizer.
///
/// # Errors
/// As [`PreTokenizer::chunks`].
pub fn train_merges_of_texts(
    texts: &[&str],
    pre_tokenizer: &PreTokenizer,
    merges: usize,
    progress: impl FnMut(usize),
) -> Result<Vec<Pair>> {
    let counts = match pre_tokenizer {
        PreTokenizer::Pattern(pattern) => {
            let segments = texts.iter().flat_map(|text| Pattern::segments(text, SEGMENT));
            count(&segments.collect::<Vec<_>>(), |segment| pattern.split(segment))
        }
        PreTokenizer::Expression(_) => {
            let chunks = texts.par_iter().map(|text| pre_tokenizer.chunks(text));
            count(&chunks.collect::<Result<Vec<_>>>()?.concat(), |&chunk| once(chunk))
        }
    };
    Ok(learn(counts, merges, progress))
}

/// Learns merges from chunks with their counts.
fn learn(chunks: FxHashMap<&str, i64>, merges: usize, mut progress: impl FnMut(usize)) -> Vec<Pair> {
    let mut chunks: Vec<Chunk> = chunks
        .into_iter()
        .filter(|(chunk, _)| chunk.len() > 1)
        .map(|(chunk, count)| Chunk {
            tokens: chunk.bytes().map(u32::from).collect(),
            count,
        })
        .collect();

    let mut counts = FxHashMap::<Pair, i64>::default();
    let mut occurrences = FxHashMap::<Pair, Vec<u32>>::default();
    for (index, chunk) in (0u32..).zip(&chunks) {
        for pair in pairs(&chunk.tokens) {
            *counts.entry(pair).or_default() += chunk.count;
            let occurrences = occurrences.entry(pair).or_default();
            if occurrences.last() != Some(&index) {
                occurrences.push(index);
            }
        }
    }
    let mut heap: BinaryHeap<(i64, Reverse<Pair>)> =
        counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();

    let mut learned = Vec::with_capacity(merges);
    let mut new_pairs = FxHashSet::<Pair>::default();
    while learned.len() < merges {
        let Some((queued_count, Reverse(pair))) = heap.pop() else {
            break;
        };
        let count = counts.get(&pair).copied().unwrap_or(0);
        if count < queued_count {
            if count > 0 {
                heap.push((count, Reverse(pair)));
            }
            continue;
        }
        let new = BYTES + learned.len() as u32;
        for index in occurrences.remove(&pair).unwrap_or_default() {
            let chunk = &mut chunks[index as usize];
            if !pairs(&chunk.tokens).any(|other| other == pair) {
                continue;
            }
            for pair in pairs(&chunk.tokens) {
                if let Some(count) = counts.get_mut(&pair) {
                    *count -= chunk.count;
                }
            }
            merge(&mut chunk.tokens, pair, new);
            for pair in pairs(&chunk.tokens) {
                *counts.entry(pair).or_default() += chunk.count;
                if pair.0 == new || pair.1 == new {
                    new_pairs.insert(pair);
                    let occurrences = occurrences.entry(pair).or_default();
                    if occurrences.last() != Some(&index) {
                        occurrences.push(index);
                    }
                }
            }
        }
        counts.remove(&pair);
        heap.extend(new_pairs.drain().map(|pair| (counts[&pair], Reverse(pair))));
        learned.push(pair);
        progress(learned.len());
    }
    learned
}

/// The distinct chunks of several texts with their counts, on all of rayon's threads.
fn count<'a, C: Iterator<Item = &'a str>>(
    stretches: &[&'a str],
    chunks: impl Fn(&&'a str) -> C + Sync + Send,
) -> FxHashMap<&'a str, i64> {
    stretches
        .par_iter()
        .fold(FxHashMap::default, |mut counts, stretch| {
            for chunk in chunks(stretch) {
                *counts.entry(chunk).or_default() += 1;
            }
            counts
        })
        .reduce(FxHashMap::default, |mut all, mut some| {
            if all.len() < some.len() {
                std::mem::swap(&mut all, &mut some);
            }
            for (chunk, count) in some {
                *all.entry(chunk).or_default() += count;
            }
            all
        })
}

fn pairs(tokens: &[u32]) -> impl Iterator<Item = Pair> {
    tokens.windows(2).map(|pair| (pair[0], pair[1]))
}

/// Replaces every `pair` by `new` in place, from left to right.
fn merge(tokens: &mut Vec<u32>, pair: Pair, new: u32) {
    let (mut from, mut to) = (0, 0);
    while from < tokens.len() {
        if tokens[from..].starts_with(&[pair.0, pair.1]) {
            tokens[to] = new;
            from += 2;
        } else {
            tokens[to] = tokens[from];
            from += 1;
        }
        to += 1;
    }
    tokens.truncate(to);
}

//! Learning merges, fast: the result of [`Basic::train`](super::basic::Basic::train) without its passes over the text.
//!
//! - Equal chunks are merged once: the text becomes its distinct chunks, each with its count.
//! - The counts of pairs are kept up to date; a merge touches only the chunks that have its pair.
//! - The most frequent pair is on top of a heap. Counts of pairs only fall once they are in it, so an entry may promise
//!   too much, never too little: one that does goes back with its true count.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::once;

use anyhow::Result;
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::basic::{BYTES, Pair};
use super::{Pattern, PreTokenizer};

/// Bytes that one thread counts at a time.
const SEGMENT: usize = 1 << 18;

/// A distinct chunk of the text: its tokens, and how often it occurs.
struct Word {
    tokens: Vec<u32>,
    count: i64,
}

/// Learns up to `merges` merges from `text`; fewer only where nothing is left to merge. Of equally frequent pairs, the
/// one with the lowest ids comes first. `progress` is called with the number of merges after
/// each.
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

/// The same for texts that no merge crosses either, cut by any pre-tokenizer.
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

/// Learns merges from chunks and how often each occurs.
fn learn(chunks: FxHashMap<&str, i64>, merges: usize, mut progress: impl FnMut(usize)) -> Vec<Pair> {
    let mut words: Vec<Word> = chunks
        .into_iter()
        .filter(|(chunk, _)| chunk.len() > 1)
        .map(|(chunk, count)| Word {
            tokens: chunk.bytes().map(u32::from).collect(),
            count,
        })
        .collect();

    let mut counts = FxHashMap::<Pair, i64>::default();
    let mut places = FxHashMap::<Pair, Vec<u32>>::default();
    for (index, word) in (0u32..).zip(&words) {
        for pair in pairs(&word.tokens) {
            *counts.entry(pair).or_default() += word.count;
            let places = places.entry(pair).or_default();
            if places.last() != Some(&index) {
                places.push(index);
            }
        }
    }
    let mut heap: BinaryHeap<(i64, Reverse<Pair>)> =
        counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();

    let mut learned = Vec::with_capacity(merges);
    let mut met = FxHashSet::<Pair>::default();
    while learned.len() < merges {
        let Some((promised, Reverse(pair))) = heap.pop() else {
            break;
        };
        let count = counts.get(&pair).copied().unwrap_or(0);
        if count < promised {
            if count > 0 {
                heap.push((count, Reverse(pair)));
            }
            continue;
        }
        let new = BYTES + learned.len() as u32;
        for index in places.remove(&pair).unwrap_or_default() {
            let word = &mut words[index as usize];
            if !pairs(&word.tokens).any(|other| other == pair) {
                continue;
            }
            for pair in pairs(&word.tokens) {
                if let Some(count) = counts.get_mut(&pair) {
                    *count -= word.count;
                }
            }
            merge(&mut word.tokens, pair, new);
            for pair in pairs(&word.tokens) {
                *counts.entry(pair).or_default() += word.count;
                if pair.0 == new || pair.1 == new {
                    met.insert(pair);
                    let places = places.entry(pair).or_default();
                    if places.last() != Some(&index) {
                        places.push(index);
                    }
                }
            }
        }
        counts.remove(&pair);
        heap.extend(met.drain().map(|pair| (counts[&pair], Reverse(pair))));
        learned.push(pair);
        progress(learned.len());
    }
    learned
}

/// The distinct chunks of some stretches of text and how often each occurs, counted on all of rayon's threads.
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

/// Puts `new` in the place of every `pair`, from left to right.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::basic::Basic;
    use super::*;

    proptest! {
        #[test]
        fn fast_and_simple_training_learn_the_same(text in "[ab ]{0,60}|[a-d \n]{0,80}|\\PC{0,40}", merges in 0usize..40) {
            for pattern in Pattern::ALL {
                let simple = Basic::train(&text, BYTES as usize + merges, Some(pattern)).merges;
                prop_assert_eq!(train_merges(&text, pattern, merges, |_| ()), simple);
            }
        }
    }
}

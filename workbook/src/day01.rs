//! Day 1: byte pairs.

use std::collections::BTreeMap;

use anyhow::Result;
use mlx_gpt::course::day01::{self, Pair};

use super::exercise::{Draw, Exercise, Mistake};
use super::value::Value;

/// The learner's functions of day 1.
#[derive(Clone, Copy)]
pub struct Day01 {
    pub utf8: fn(u32) -> Vec<u8>,
    pub count_pairs: fn(&[u32]) -> BTreeMap<Pair, usize>,
    pub most_frequent: fn(&BTreeMap<Pair, usize>) -> Option<Pair>,
    pub merge: fn(&[u32], Pair, u32) -> Vec<u32>,
    pub train: fn(&str, usize) -> Vec<Pair>,
    pub encode: fn(&str, &[Pair]) -> Vec<u32>,
    pub decode: fn(&[u32], &[Pair]) -> String,
}

/// Merges of a small text.
const MERGES: usize = 6;

impl Day01 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<Vec<u32>>(
                "utf8",
                |draw| {
                    // Of each length: the first and the last code point, and one between them.
                    let lengths = [(0, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0x10000, 0x10FFFF)];
                    let of_length = |(low, high)| [low, draw.size(low, high), high];
                    Ok(lengths
                        .into_iter()
                        .flat_map(of_length)
                        .map(|code_point| code_point as u32)
                        .collect())
                },
                |code_points| all_bytes(code_points, day01::utf8),
                move |code_points| all_bytes(code_points, self.utf8),
                0.0,
                vec![
                    Mistake {
                        hint: "the following bytes don't begin with 10: `0x80 | …`",
                        made: |code_points| {
                            all_bytes(code_points, |code_point| {
                                let mut bytes = day01::utf8(code_point);
                                bytes.iter_mut().skip(1).for_each(|byte| *byte &= 0x3F);
                                bytes
                            })
                        },
                    },
                    Mistake {
                        hint: "the following bytes are in the wrong order: the highest bits come first",
                        made: |code_points| {
                            all_bytes(code_points, |code_point| {
                                let mut bytes = day01::utf8(code_point);
                                bytes[1..].reverse();
                                bytes
                            })
                        },
                    },
                    Mistake {
                        hint: "this is the code point's lowest byte alone, which is UTF-8 only below 0x80",
                        made: |code_points| all_bytes(code_points, |code_point| vec![code_point as u8]),
                    },
                ],
            ),
            Exercise::new::<Vec<u32>>(
                "count_pairs",
                ids,
                |ids| counts(&day01::count_pairs(ids)),
                move |ids| counts(&(self.count_pairs)(ids)),
                0.0,
                vec![
                    Mistake {
                        hint: "only every other pair is counted: pairs overlap, so that `a b c` has a b and b c (`windows`, not `chunks`)",
                        made: |ids| {
                            let mut counted = BTreeMap::new();
                            for pair in ids.chunks_exact(2) {
                                *counted.entry((pair[0], pair[1])).or_insert(0) += 1;
                            }
                            counts(&counted)
                        },
                    },
                    Mistake {
                        hint: "each pair is counted once: add 1 at every occurrence",
                        made: |ids| counts(&day01::count_pairs(ids).into_keys().map(|pair| (pair, 1)).collect()),
                    },
                ],
            ),
            Exercise::new::<BTreeMap<Pair, usize>>(
                "most_frequent",
                |draw| {
                    let mut counts = BTreeMap::new();
                    for _ in 0..8 {
                        let pair = (draw.size(0, 9) as u32, draw.size(0, 9) as u32);
                        counts.insert(pair, draw.size(1, 3) as usize);
                    }
                    // Two of the highest count.
                    counts.insert((20 + draw.size(0, 9) as u32, 1), 4);
                    counts.insert((40 + draw.size(0, 9) as u32, 1), 4);
                    Ok(counts)
                },
                |counts| pair(day01::most_frequent(counts)),
                move |counts| pair((self.most_frequent)(counts)),
                0.0,
                vec![
                    Mistake {
                        hint: "of equally frequent pairs this is the highest; take the lowest (`max_by_key` takes the last of equals)",
                        made: |counts| pair(counts.iter().max_by_key(|&(_, count)| count).map(|(&pair, _)| pair)),
                    },
                    Mistake {
                        hint: "this is the least frequent pair: compare `Reverse(count)`",
                        made: |counts| pair(counts.iter().min_by_key(|&(_, count)| count).map(|(&pair, _)| pair)),
                    },
                ],
            ),
            Exercise::new::<(Vec<u32>, Pair)>(
                "merge",
                |draw| {
                    // Three equal neighbours are merged from the left.
                    let pair = (draw.size(0, 2) as u32, draw.size(0, 2) as u32);
                    Ok(([ids(draw)?, vec![pair.0, pair.1, 1, 1, 1]].concat(), pair))
                },
                |(ids, pair)| list(&day01::merge(ids, *pair, 300)),
                move |(ids, pair)| list(&(self.merge)(ids, *pair, 300)),
                0.0,
                vec![
                    Mistake {
                        hint: "after a merge go on by two: the right one of the pair is used up",
                        made: |(ids, pair)| {
                            let mut merged = Vec::new();
                            for (at, &id) in ids.iter().enumerate() {
                                let begins = ids[at..].starts_with(&[pair.0, pair.1]);
                                merged.push(if begins { 300 } else { id });
                            }
                            list(&merged)
                        },
                    },
                    Mistake {
                        hint: "only the first pair is merged: go on to the end",
                        made: |(ids, pair)| {
                            let first = ids.windows(2).position(|two| two == [pair.0, pair.1]);
                            let merged = first.map(|at| [&ids[..at], &[300], &ids[at + 2..]].concat());
                            list(&merged.unwrap_or_else(|| ids.clone()))
                        },
                    },
                    Mistake {
                        hint: "the last token is lost: the end of the ids is no pair, but it has a token",
                        made: |(ids, pair)| {
                            let mut merged = day01::merge(ids, *pair, 300);
                            if !ids.ends_with(&[pair.0, pair.1]) {
                                merged.pop();
                            }
                            list(&merged)
                        },
                    },
                ],
            ),
            Exercise::new::<String>(
                "train",
                text,
                |text| pairs(&day01::train(text, MERGES)),
                move |text| pairs(&(self.train)(text, MERGES)),
                0.0,
                vec![
                    Mistake {
                        hint: "the ids are not merged before the next count: each merge counts what the last one left",
                        made: |text| {
                            let ids: Vec<u32> = text.bytes().map(u32::from).collect();
                            let counts = day01::count_pairs(&ids);
                            let mut by_count: Vec<(Pair, usize)> = counts.into_iter().collect();
                            by_count.sort_by_key(|&(pair, count)| (std::cmp::Reverse(count), pair));
                            let most: Vec<Pair> = by_count.into_iter().map(|(pair, _)| pair).take(MERGES).collect();
                            pairs(&most)
                        },
                    },
                    Mistake {
                        hint: "new tokens begin at 256, after all bytes, and go up by one with each merge",
                        made: |text| pairs(&trained_from(text, 255)),
                    },
                    Mistake {
                        hint: "new tokens begin at 256, the first number that is no byte",
                        made: |text| pairs(&trained_from(text, 257)),
                    },
                ],
            ),
            Exercise::new::<String>(
                "encode",
                text,
                |text| list(&day01::encode(text, &day01::train(text, MERGES))),
                move |text| list(&(self.encode)(text, &day01::train(text, MERGES))),
                0.0,
                vec![
                    Mistake {
                        hint: "these are the bytes: apply the merges",
                        made: |text| list(&day01::encode(text, &[])),
                    },
                    Mistake {
                        hint: "the merges are applied from the last to the first: keep the order in which they were learned",
                        made: |text| {
                            let mut ids: Vec<u32> = text.bytes().map(u32::from).collect();
                            let merges = day01::train(text, MERGES);
                            for (new, &pair) in (day01::BYTES..).zip(&merges).collect::<Vec<_>>().into_iter().rev() {
                                ids = day01::merge(&ids, pair, new);
                            }
                            list(&ids)
                        },
                    },
                ],
            ),
            Exercise::new::<String>(
                "decode",
                text,
                |text| bytes(text),
                move |text| {
                    let merges = day01::train(text, MERGES);
                    bytes(&(self.decode)(&day01::encode(text, &merges), &merges))
                },
                0.0,
                vec![
                    Mistake {
                        hint: "each byte became a character: join the bytes first, then make text of them (`String::from_utf8_lossy`)",
                        made: |text| bytes(&text.bytes().map(char::from).collect::<String>()),
                    },
                    Mistake {
                        hint: "bytes that are not ASCII are lost: join the bytes first, then make text of them",
                        made: |text| bytes(&text.chars().filter(char::is_ascii).collect::<String>()),
                    },
                ],
            ),
        ]
    }
}

/// Few different ids, so that pairs repeat; an odd number of them.
fn ids(draw: &mut Draw) -> Result<Vec<u32>> {
    let count = 2 * draw.size(12, 18) + 1;
    Ok((0..count).map(|_| draw.size(0, 2) as u32).collect())
}

/// A text of few letters, one of them of two bytes.
fn text(draw: &mut Draw) -> Result<String> {
    let letters = ['a', 'b', 'c', 'é', ' '];
    let count = draw.size(60, 80);
    Ok((0..count).map(|_| letters[draw.size(0, 4) as usize]).collect())
}

/// Training whose tokens begin at another number.
fn trained_from(text: &str, first: u32) -> Vec<Pair> {
    let mut ids: Vec<u32> = text.bytes().map(u32::from).collect();
    let mut learned = Vec::new();
    for new in (first..).take(MERGES) {
        let Some(pair) = day01::most_frequent(&day01::count_pairs(&ids)) else {
            break;
        };
        ids = day01::merge(&ids, pair, new);
        learned.push(pair);
    }
    learned
}

/// The bytes of each of the code points, with their number before them.
fn all_bytes(code_points: &[u32], utf8: impl Fn(u32) -> Vec<u8>) -> Result<Value> {
    let bytes = code_points.iter().flat_map(|&code_point| {
        let bytes = utf8(code_point);
        [vec![bytes.len() as u8], bytes].concat()
    });
    Ok(Value::list(bytes))
}

fn list(ids: &[u32]) -> Result<Value> {
    Ok(Value::list(ids.iter().copied()))
}

fn bytes(text: &str) -> Result<Value> {
    Ok(Value::list(text.bytes()))
}

fn pairs(pairs: &[Pair]) -> Result<Value> {
    Ok(Value::list(pairs.iter().flat_map(|&(left, right)| [left, right])))
}

fn pair(pair: Option<Pair>) -> Result<Value> {
    pairs(&pair.into_iter().collect::<Vec<_>>())
}

fn counts(counts: &BTreeMap<Pair, usize>) -> Result<Value> {
    let rows = counts
        .iter()
        .flat_map(|(&(left, right), &count)| [left, right, count as u32]);
    Ok(Value::list(rows))
}

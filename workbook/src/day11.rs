//! Day 11: a loss on some of the tokens, and a sum that begins with its last digit.

use mlx_gpt::course::day11;
use mlx_rs::Array;

use super::exercise::{Exercise, Mistake};
use super::value::{Value, value};

/// The learner's functions of day 11.
#[derive(Clone, Copy)]
pub struct Day11 {
    pub masked_cross_entropy: fn(&Array, &Array, &Array) -> mlx_rs::error::Result<Array>,
    pub reversed_sum: fn(u64, u64) -> String,
}

/// Tokens of a vocabulary.
const VOCAB: i32 = 7;
/// A mean of logarithms of sums of a few numbers around 1 in float32.
const TOLERANCE: f64 = 1e-5;

impl Day11 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<(Array, Array, Array)>(
                "masked_cross_entropy",
                |draw| {
                    // One that counts and one that does not, and six of either kind.
                    let mut counts = vec![1.0, 0.0];
                    counts.extend((0..6).map(|_| draw.size(0, 1) as f32));
                    let counts = Array::from_slice(&counts, &[2, 4]);
                    Ok((draw.normal(&[2, 4, VOCAB])?, draw.ids(&[2, 4], VOCAB), counts))
                },
                |(logits, targets, counts)| value(day11::masked_cross_entropy(logits, targets, counts)),
                move |(logits, targets, counts)| value((self.masked_cross_entropy)(logits, targets, counts)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the mean is over all targets: divide by the number of those that count",
                        made: |(logits, targets, counts)| {
                            let mean = day11::masked_cross_entropy(logits, targets, counts)?;
                            value(mean.multiply(counts.mean(None)?))
                        },
                    },
                    Mistake {
                        hint: "all targets count: multiply the losses by `counts`",
                        made: |(logits, targets, counts)| {
                            let all = Array::ones::<f32>(counts.shape())?;
                            value(day11::masked_cross_entropy(logits, targets, &all))
                        },
                    },
                    Mistake {
                        hint: "this is the sum: divide by the number of targets that count",
                        made: |(logits, targets, counts)| {
                            let mean = day11::masked_cross_entropy(logits, targets, counts)?;
                            value(mean.multiply(counts.sum(None)?))
                        },
                    },
                    Mistake {
                        hint: "these are the targets that don't count",
                        made: |(logits, targets, counts)| {
                            let others = Array::from_f32(1.0).subtract(counts)?;
                            value(day11::masked_cross_entropy(logits, targets, &others))
                        },
                    },
                ],
            ),
            Exercise::new::<Vec<u64>>(
                "reversed_sum",
                |draw| {
                    let mut numbers: Vec<u64> = (0..8).map(|_| draw.size(0, 9999) as u64).collect();
                    numbers.extend([0, 0, 999, 1, 5, 995, 10, 20]); // pairs
                    Ok(numbers)
                },
                |numbers| sums(numbers, day11::reversed_sum),
                move |numbers| sums(numbers, self.reversed_sum),
                0.0,
                vec![
                    Mistake {
                        hint: "the digits are in plain order: the last comes first",
                        made: |numbers| sums(numbers, |a, b| (a + b).to_string()),
                    },
                    Mistake {
                        hint: "the last carry is lost: go on while it is not 0",
                        made: |numbers| {
                            sums(numbers, |a, b| {
                                let longest = a.max(b).to_string().len();
                                day11::reversed_sum(a, b).chars().take(longest).collect()
                            })
                        },
                    },
                    Mistake {
                        hint: "0 + 0 has no digit: it is 0",
                        made: |numbers| {
                            sums(numbers, |a, b| match a + b {
                                0 => String::new(),
                                _ => day11::reversed_sum(a, b),
                            })
                        },
                    },
                    Mistake {
                        hint: "nothing is carried: add the carry of the place before",
                        made: |numbers| {
                            sums(numbers, |mut a, mut b| {
                                let mut digits = String::new();
                                while a > 0 || b > 0 || digits.is_empty() {
                                    digits += &((a % 10 + b % 10) % 10).to_string();
                                    (a, b) = (a / 10, b / 10);
                                }
                                digits
                            })
                        },
                    },
                ],
            ),
        ]
    }
}

/// The digits of the sums of pairs of numbers, with a -1 after each.
fn sums(numbers: &[u64], sum: impl Fn(u64, u64) -> String) -> anyhow::Result<Value> {
    let digits = numbers.chunks_exact(2).flat_map(|pair| {
        let digits: Vec<f64> = sum(pair[0], pair[1])
            .bytes()
            .map(|digit| f64::from(digit) - 48.0)
            .collect();
        digits.into_iter().chain([-1.0])
    });
    Ok(Value::list(digits))
}

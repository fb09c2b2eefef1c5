//! Day 2: batches, the loss, the bigram model.

use anyhow::Result;
use mlx_gpt::course::day02;
use mlx_rs::ops::indexing::take_along_axis;
use mlx_rs::{Array, ops};

use super::exercise::{Draw, Exercise, Mistake};
use super::value::{Value, value};

/// The learner's functions of day 2.
#[derive(Clone, Copy)]
pub struct Day02 {
    pub split: fn(&[u32]) -> (&[u32], &[u32]),
    pub get_batch: fn(&[u32], &[usize], usize) -> (Array, Array),
    pub bigram_logits: fn(&Array, &Array) -> mlx_rs::error::Result<Array>,
    pub cross_entropy: fn(&Array, &Array) -> mlx_rs::error::Result<Array>,
    pub sample: fn(&[f32], f32) -> u32,
    pub count_bigrams: fn(&[u32], i32) -> Array,
}

/// Tokens of a vocabulary.
const VOCAB: i32 = 7;
const CONTEXT: usize = 5;
/// A logarithm of a sum of a few numbers around 1 in float32.
const TOLERANCE: f64 = 1e-5;

impl Day02 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<Vec<u32>>(
                "split",
                tokens,
                |tokens| both(day02::split(tokens)),
                move |tokens| both((self.split)(tokens)),
                0.0,
                vec![
                    Mistake {
                        hint: "training and validation text have changed places",
                        made: |tokens| {
                            let (train, val) = day02::split(tokens);
                            both((val, train))
                        },
                    },
                    Mistake {
                        hint: "the first tenth is held out: it must be the last",
                        made: |tokens| {
                            let (first, rest) = tokens.split_at(tokens.len() / 10);
                            both((rest, first))
                        },
                    },
                ],
            ),
            Exercise::new::<(Vec<u32>, Vec<usize>)>(
                "get_batch",
                |draw| {
                    let tokens = tokens(draw)?;
                    let last = (tokens.len() - CONTEXT - 1) as i32;
                    let starts = (0..3).map(|_| draw.size(0, last) as usize).collect();
                    Ok((tokens, starts))
                },
                |(tokens, starts)| batch(day02::get_batch(tokens, starts, CONTEXT)),
                move |(tokens, starts)| batch((self.get_batch)(tokens, starts, CONTEXT)),
                0.0,
                vec![
                    Mistake {
                        hint: "the targets are not shifted: the target of a token is the one after it",
                        made: |(tokens, starts)| {
                            let (inputs, _) = day02::get_batch(tokens, starts, CONTEXT);
                            batch((inputs.clone(), inputs))
                        },
                    },
                    Mistake {
                        hint: "inputs and targets have changed places",
                        made: |(tokens, starts)| {
                            let (inputs, targets) = day02::get_batch(tokens, starts, CONTEXT);
                            batch((targets, inputs))
                        },
                    },
                    Mistake {
                        hint: "the rows are one after the other in the text: row i begins at `starts[i]`",
                        made: |(tokens, starts)| {
                            let rows: Vec<usize> = (0..starts.len()).map(|row| starts[0] + row * CONTEXT).collect();
                            anyhow::ensure!(rows.iter().all(|start| start + CONTEXT < tokens.len()), "too long");
                            batch(day02::get_batch(tokens, &rows, CONTEXT))
                        },
                    },
                ],
            ),
            Exercise::new::<(Array, Array)>(
                "bigram_logits",
                |draw| Ok((draw.normal(&[VOCAB, VOCAB])?, draw.ids(&[2, 4], VOCAB))),
                |(table, ids)| value(day02::bigram_logits(table, ids)),
                move |(table, ids)| value((self.bigram_logits)(table, ids)),
                0.0,
                vec![Mistake {
                    hint: "these are columns of the table: the token has a row, with a logit for each next token",
                    made: |(table, ids)| value(table.transpose()?.take_axis(ids, 0)),
                }],
            ),
            Exercise::new::<(Array, Array)>(
                "cross_entropy",
                |draw| Ok((draw.normal(&[2, 4, VOCAB])?, draw.ids(&[2, 4], VOCAB))),
                |(logits, targets)| value(day02::cross_entropy(logits, targets)),
                move |(logits, targets)| value((self.cross_entropy)(logits, targets)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the sign is wrong: a loss is minus the log-probability",
                        made: |(logits, targets)| value(day02::cross_entropy(logits, targets)?.negative()),
                    },
                    Mistake {
                        hint: "this is the sum over the tokens: take the mean",
                        made: |(logits, targets)| {
                            let count = Array::from_f32(targets.size() as f32);
                            value(day02::cross_entropy(logits, targets)?.multiply(count))
                        },
                    },
                    Mistake {
                        hint: "this is in bits: take natural logarithms",
                        made: |(logits, targets)| {
                            let bits = Array::from_f32(std::f32::consts::LN_2);
                            value(day02::cross_entropy(logits, targets)?.divide(bits))
                        },
                    },
                    Mistake {
                        hint: "the logits are not normalised: subtract the target's logit from the logsumexp of all of them",
                        made: |(logits, targets)| {
                            let at_target = take_along_axis(logits, targets.expand_dims(-1)?, -1)?;
                            value(at_target.mean(None)?.negative())
                        },
                    },
                    Mistake {
                        hint: "these are probabilities: take their logarithm before the mean",
                        made: |(logits, targets)| {
                            let probabilities = ops::softmax_axis(logits, -1, true)?;
                            value(take_along_axis(&probabilities, targets.expand_dims(-1)?, -1)?.mean(None))
                        },
                    },
                ],
            ),
            Exercise::new::<Vec<f32>>(
                "sample",
                |draw| {
                    let powers: Vec<f32> = (0..VOCAB).map(|_| draw.size(1, 40) as f32).collect();
                    let total: f32 = powers.iter().sum();
                    Ok(powers.iter().map(|power| power / total).collect())
                },
                |probabilities| drawn(probabilities, day02::sample),
                move |probabilities| drawn(probabilities, self.sample),
                0.0,
                vec![
                    Mistake {
                        hint: "this is always the most likely token: draw by `uniform`",
                        made: |probabilities| {
                            drawn(probabilities, |probabilities, _| {
                                let ids = 0..probabilities.len() as u32;
                                let at = |id: u32| probabilities[id as usize];
                                ids.reduce(|best, id| if at(id) > at(best) { id } else { best })
                                    .unwrap_or_default()
                            })
                        },
                    },
                    Mistake {
                        hint: "the sum is compared before the token's probability is added to it",
                        made: |probabilities| {
                            drawn(probabilities, |probabilities, uniform| {
                                let next = day02::sample(probabilities, uniform) + 1;
                                next.min(probabilities.len() as u32 - 1)
                            })
                        },
                    },
                    Mistake {
                        hint: "all tokens are equally likely here: add up their probabilities",
                        made: |probabilities| {
                            drawn(probabilities, |probabilities, uniform| {
                                (uniform * probabilities.len() as f32) as u32
                            })
                        },
                    },
                ],
            ),
            Exercise::new::<Vec<u32>>(
                "count_bigrams",
                tokens,
                |tokens| Value::array(&day02::count_bigrams(tokens, VOCAB)),
                move |tokens| Value::array(&(self.count_bigrams)(tokens, VOCAB)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "rows and columns have changed places: the row is the token, the column the one after it",
                        made: |tokens| value(day02::count_bigrams(tokens, VOCAB).transpose()),
                    },
                    Mistake {
                        hint: "these are the counts: take the logarithm",
                        made: |tokens| value(day02::count_bigrams(tokens, VOCAB).exp()),
                    },
                    Mistake {
                        hint: "a pair that never occurs has a count of zero, whose logarithm is minus infinity: begin with ones",
                        made: |tokens| {
                            let counts = day02::count_bigrams(tokens, VOCAB).exp()?.round(0)?;
                            value(counts.subtract(Array::from_f32(1.0))?.log())
                        },
                    },
                ],
            ),
        ]
    }
}

fn tokens(draw: &mut Draw) -> Result<Vec<u32>> {
    let count = draw.size(60, 90);
    Ok((0..count).map(|_| draw.size(0, VOCAB - 1) as u32).collect())
}

/// Both parts, divided by a number that is no id.
fn both((train, val): (&[u32], &[u32])) -> Result<Value> {
    Ok(Value::list([train, &[u32::MAX], val].concat()))
}

fn batch((inputs, targets): (Array, Array)) -> Result<Value> {
    Value::arrays(&[inputs, targets])
}

/// The tokens for many numbers between 0 and 1, none of which is a sum of the probabilities: there rounding would decide.
fn drawn(probabilities: &[f32], sample: fn(&[f32], f32) -> u32) -> Result<Value> {
    Ok(Value::list(
        (0..100).map(|step| sample(probabilities, (step as f32 + 0.309) / 100.0)),
    ))
}

//! Day 3: embeddings, and the mean of the past.

use anyhow::Result;
use mlx_gpt::course::day03;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype, ops};

use super::exercise::{Draw, Exercise, Mistake};
use super::input::{Input, fields};
use super::value::value;

/// The learner's functions of day 3.
#[derive(Clone, Copy)]
pub struct Day03 {
    pub one_hot: fn(&Array, i32) -> mlx_rs::error::Result<Array>,
    pub embed: fn(&Array, &day03::Weights, i32) -> mlx_rs::error::Result<Array>,
    pub mean_by_loop: fn(&Array) -> mlx_rs::error::Result<Array>,
    pub mean_weights: fn(i32) -> mlx_rs::error::Result<Array>,
    pub causal_mask: fn(i32) -> mlx_rs::error::Result<Array>,
    pub mean_by_softmax: fn(&Array) -> mlx_rs::error::Result<Array>,
}

/// Sums of a few numbers around 1 in float32, in any order.
const TOLERANCE: f64 = 1e-5;

impl Day03 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new(
                "one_hot",
                |draw| {
                    let vocab = draw.size(5, 9);
                    Ok((draw.ids(&[2, 4], vocab), vocab))
                },
                |(ids, vocab)| value(day03::one_hot(ids, *vocab)),
                move |(ids, vocab)| value((self.one_hot)(ids, *vocab)),
                0.0,
                vec![Mistake {
                    hint: "the ones are where the id is not: compare with `ops::eq`, not `ops::ne`",
                    made: |(ids, vocab)| value(Array::from_f32(1.0).subtract(day03::one_hot(ids, *vocab)?)),
                }],
            ),
            Exercise::new(
                "embed",
                Embedded::draw,
                |x| value(day03::embed(&x.ids, &x.weights, x.start)),
                move |x| value((self.embed)(&x.ids, &x.weights, x.start)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the positions are missing: add rows of `wpe.weight`",
                        made: |x| value(x.weights["wte.weight"].take_axis(&x.ids, 0)),
                    },
                    Mistake {
                        hint: "the first token has position `start`, not 0",
                        made: |x| value(day03::embed(&x.ids, &x.weights, 0)),
                    },
                    Mistake {
                        hint: "positions count from 0: the first token's is `start`, not `start + 1`",
                        made: |x| value(day03::embed(&x.ids, &x.weights, x.start + 1)),
                    },
                ],
            ),
            Exercise::new(
                "mean_by_loop",
                vectors,
                |x| value(day03::mean_by_loop(x)),
                move |x| value((self.mean_by_loop)(x)),
                TOLERANCE,
                mistakes_of_means(),
            ),
            Exercise::new(
                "mean_weights",
                |draw| Ok(draw.size(3, 9)),
                |&tokens| value(day03::mean_weights(tokens)),
                move |&tokens| value((self.mean_weights)(tokens)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the rows must add up to 1: divide row n, counted from 1, by n",
                        made: |&tokens| value(past(tokens)),
                    },
                    Mistake {
                        hint: "it is transposed: rows are the tokens that look, columns those that are seen",
                        made: |&tokens| value(day03::mean_weights(tokens)?.transpose()),
                    },
                    Mistake {
                        hint: "the weights are on the future: the columns that count come no later than the row (`ops::le`)",
                        made: |&tokens| {
                            let position = ops::arange::<_, i32>(None, tokens, None)?;
                            let row = position.expand_dims(-1)?;
                            let future = ops::ge(&position, &row)?.as_dtype(Dtype::Float32)?;
                            value(future.divide(counted(tokens)?.expand_dims(-1)?))
                        },
                    },
                    Mistake {
                        hint: "each column is divided by its own number: divide each row, by the number of tokens that it sees",
                        made: |&tokens| value(past(tokens)?.divide(counted(tokens)?)),
                    },
                    Mistake {
                        hint: "rows are counted from 1: the first token sees one token, itself, so divide by the position plus 1",
                        made: |&tokens| {
                            let from_zero = counted(tokens)?.subtract(Array::from_f32(1.0))?;
                            value(past(tokens)?.divide(from_zero.expand_dims(-1)?))
                        },
                    },
                    Mistake {
                        hint: "every row has weights on the future: compare positions with `ops::le` first",
                        made: |&tokens| {
                            value(ops::full::<f32>(
                                &[tokens, tokens],
                                Array::from_f32(1.0 / tokens as f32),
                            ))
                        },
                    },
                ],
            ),
            Exercise::new(
                "causal_mask",
                |draw| Ok(draw.size(3, 9)),
                |&tokens| value(day03::causal_mask(tokens)),
                move |&tokens| value((self.causal_mask)(tokens)),
                0.0,
                vec![
                    Mistake {
                        hint: "the mask is upside down: true is for the future, where the column comes after the row",
                        made: |&tokens| value(ops::logical_not(day03::causal_mask(tokens)?)),
                    },
                    Mistake {
                        hint: "the mask is transposed: rows are the tokens that look, columns those that are seen",
                        made: |&tokens| value(day03::causal_mask(tokens)?.transpose()),
                    },
                    Mistake {
                        hint: "the mask is shifted by one: a token may see itself, so the diagonal is false (`ops::lt`, not `ops::le`)",
                        made: |&tokens| value(ops::logical_not(day03::causal_mask(tokens)?.transpose()?)),
                    },
                    Mistake {
                        hint: "the mask is shifted by one: the next token is the future already",
                        made: |&tokens| value(next_token_visible(tokens)),
                    },
                ],
            ),
            Exercise::new(
                "mean_by_softmax",
                vectors,
                |x| value(day03::mean_by_softmax(x)),
                move |x| value((self.mean_by_softmax)(x)),
                TOLERANCE,
                {
                    let mut mistakes = mistakes_of_means();
                    mistakes.push(Mistake {
                        hint: "the mask is upside down: minus infinity where it is true, 0 where it is false",
                        made: |x| {
                            let mask = day03::causal_mask(x.dim(1))?;
                            let minus_infinity = Array::from_f32(f32::NEG_INFINITY);
                            let scores = ops::select(mask, Array::from_f32(0.0), minus_infinity)?;
                            value(ops::softmax_axis(&scores, -1, true)?.matmul(x))
                        },
                    });
                    mistakes.push(Mistake {
                        hint: "the softmax is over the wrong axis: the weights of a row add up to 1, so it is the last one, -1",
                        made: |x| {
                            let scores = ops::select(
                                day03::causal_mask(x.dim(1))?,
                                Array::from_f32(f32::NEG_INFINITY),
                                Array::from_f32(0.0),
                            )?;
                            value(ops::softmax_axis(&scores, 0, true)?.matmul(x))
                        },
                    });
                    mistakes
                },
            ),
        ]
    }
}

/// Vectors `[B, T, C]` with `T` other than `B` and `C`.
fn vectors(draw: &mut Draw) -> Result<Array> {
    let tokens = draw.size(5, 8);
    draw.normal(&[2, tokens, 3])
}

/// Ids with tables to embed them by.
pub struct Embedded {
    ids: Array,
    weights: day03::Weights,
    start: i32,
}

impl Input for Embedded {
    fn describe(&self) -> String {
        fields([("ids", &self.ids), ("weights", &self.weights), ("start", &self.start)])
    }
}

impl Embedded {
    fn draw(draw: &mut Draw) -> Result<Self> {
        let (vocab, start) = (draw.size(5, 9), draw.size(1, 3));
        Ok(Self {
            ids: draw.ids(&[2, 4], vocab),
            weights: [
                ("wte.weight".to_owned(), draw.normal(&[vocab, 3])?),
                ("wpe.weight".to_owned(), draw.normal(&[start + 6, 3])?),
            ]
            .into(),
            start,
        })
    }
}

/// 1 where a column comes no later than the row, `[T, T]`.
fn past(tokens: i32) -> mlx_rs::error::Result<Array> {
    ops::logical_not(day03::causal_mask(tokens)?)?.as_dtype(Dtype::Float32)
}

/// 1, 2, … to the number of tokens, `[T]`.
fn counted(tokens: i32) -> mlx_rs::error::Result<Array> {
    let position = ops::arange::<_, i32>(None, tokens, None)?;
    position.add(Array::from_int(1))?.as_dtype(Dtype::Float32)
}

/// A mask that is true from the second token after the row's on.
fn next_token_visible(tokens: i32) -> mlx_rs::error::Result<Array> {
    let position = ops::arange::<_, i32>(None, tokens, None)?;
    ops::lt(position.expand_dims(-1)?.add(Array::from_int(1))?, &position)
}

fn mistakes_of_means() -> Vec<Mistake<Array>> {
    vec![
        Mistake {
            hint: "each mean is of one token too few, the first of none, which is 0/0: the token itself counts as well",
            made: |x| {
                let before = day03::mean_by_loop(x)?.try_index((.., ..-1))?;
                let none = ops::full::<f32>(&[x.dim(0), 1, x.dim(2)], Array::from_f32(f32::NAN))?;
                value(ops::concatenate(&[&none, &before], 1))
            },
        },
        Mistake {
            hint: "the future counts: each mean is that of the whole text; stop at the token itself",
            made: |x| value(x.mean_axis(1, true)?.add(ops::zeros_like(x)?)),
        },
        Mistake {
            hint: "these are sums: divide by the number of tokens",
            made: |x| value(past(x.dim(1))?.matmul(x)),
        },
        Mistake {
            hint: "the token itself counts as well: its mean is over the tokens up to it and it",
            made: |x| {
                let before = day03::mean_by_loop(x)?.try_index((.., ..-1))?;
                let first = x.try_index((.., ..1))?;
                value(ops::concatenate(&[&first, &before], 1))
            },
        },
    ]
}

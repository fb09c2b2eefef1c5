//! Day 4: one head of attention.

use anyhow::Result;
use mlx_gpt::course::day03::{Weights, causal_mask};
use mlx_gpt::course::day04;
use mlx_rs::{Array, ops};

use super::exercise::{Draw, Exercise, Mistake};
use super::value::{Value, value};

/// The learner's functions of day 4.
#[derive(Clone, Copy)]
pub struct Day04 {
    pub linear: fn(&Array, &Weights, &str) -> mlx_rs::error::Result<Array>,
    pub scores: fn(&Array, &Array) -> mlx_rs::error::Result<Array>,
    pub attention_weights: fn(&Array, Option<&Array>) -> mlx_rs::error::Result<Array>,
    pub queries_keys_values: fn(&Array, &Weights, &str) -> mlx_rs::error::Result<[Array; 3]>,
    pub one_head: fn(&Array, &Weights, &str) -> mlx_rs::error::Result<Array>,
}

/// Sums of some ten products of numbers around 1 in float32, in any order.
const TOLERANCE: f64 = 1e-5;

impl Day04 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<(Array, Weights, String)>(
                "linear",
                |draw| {
                    let channels = draw.size(3, 6); // a square matrix, so that a transposed one fits
                    let name = draw.in_turn(&["c_attn", "c_proj"]);
                    Ok((
                        draw.normal(&[2, 4, channels])?,
                        layer(draw, name, channels, channels)?,
                        name.to_owned(),
                    ))
                },
                |(x, weights, name)| value(day04::linear(x, weights, name)),
                move |(x, weights, name)| value((self.linear)(x, weights, name)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the bias is missing",
                        made: |(x, weights, name)| value(x.matmul(&weights[&format!("{name}.weight")])),
                    },
                    Mistake {
                        hint: "the weight is not transposed here: GPT-2 keeps it as `[in, out]`",
                        made: |(x, weights, name)| {
                            let product = x.matmul(weights[&format!("{name}.weight")].transpose()?)?;
                            value(product.add(&weights[&format!("{name}.bias")]))
                        },
                    },
                ],
            ),
            Exercise::new::<(Array, Array)>(
                "scores",
                |draw| {
                    let (tokens, size) = (draw.size(3, 6), 4 * draw.size(2, 4));
                    let axes = [2, 3, tokens, size];
                    let shape = &axes[draw.in_turn(&[1, 0])..]; // with heads as an axis, too
                    Ok((draw.normal(shape)?, draw.normal(shape)?))
                },
                |(q, k)| value(day04::scores(q, k)),
                move |(q, k)| value((self.scores)(q, k)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the scale is missing: divide by the root of the head size",
                        made: |(q, k)| value(q.matmul(k.swap_axes(-1, -2)?)),
                    },
                    Mistake {
                        hint: "divide by the root of the head size, not by the head size itself",
                        made: |(q, k)| {
                            value(
                                q.matmul(k.swap_axes(-1, -2)?)?
                                    .divide(Array::from_f32(q.dim(-1) as f32)),
                            )
                        },
                    },
                    Mistake {
                        hint: "divide by the root of the head size, which is the last axis; this is the root of the number of tokens",
                        made: |(q, k)| {
                            let root = (q.dim(-2) as f32).sqrt();
                            value(q.matmul(k.swap_axes(-1, -2)?)?.divide(Array::from_f32(root)))
                        },
                    },
                    Mistake {
                        hint: "the scores are multiplied by the root of the head size: divide",
                        made: |(q, k)| {
                            let root = (q.dim(-1) as f32).sqrt();
                            value(q.matmul(k.swap_axes(-1, -2)?)?.multiply(Array::from_f32(root)))
                        },
                    },
                    Mistake {
                        hint: "it is transposed: rows are queries, columns are keys (q kᵀ, not k qᵀ)",
                        made: |(q, k)| value(day04::scores(k, q)),
                    },
                ],
            ),
            Exercise::new::<(Array, Array)>(
                "attention_weights",
                |draw| {
                    let tokens = draw.size(4, 7);
                    Ok((draw.normal(&[2, tokens, tokens])?, causal_mask(tokens)?))
                },
                |(scores, mask)| both(scores, mask, day04::attention_weights),
                move |(scores, mask)| both(scores, mask, self.attention_weights),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the softmax is over the wrong axis: each query's weights add up to 1, so it is the last one, -1",
                        made: |(scores, mask)| {
                            both(scores, mask, |scores, mask| {
                                ops::softmax_axis(masked(scores, mask, f32::NEG_INFINITY)?, -2, true)
                            })
                        },
                    },
                    Mistake {
                        hint: "a hidden score of 0 still gets weight, e⁰ = 1: it must be minus infinity",
                        made: |(scores, mask)| {
                            both(scores, mask, |scores, mask| {
                                ops::softmax_axis(masked(scores, mask, 0.0)?, -1, true)
                            })
                        },
                    },
                    Mistake {
                        hint: "mask before the softmax, not after it: else the rows do not add up to 1",
                        made: |(scores, mask)| {
                            both(scores, mask, |scores, mask| {
                                masked(&ops::softmax_axis(scores, -1, true)?, mask, 0.0)
                            })
                        },
                    },
                    Mistake {
                        hint: "the mask is not used",
                        made: |(scores, mask)| both(scores, mask, |scores, _| ops::softmax_axis(scores, -1, true)),
                    },
                    Mistake {
                        hint: "the mask is upside down: minus infinity where it is true, the score where it is false",
                        made: |(scores, mask)| {
                            both(scores, mask, |scores, mask| match mask {
                                Some(mask) => {
                                    let minus_infinity = Array::from_f32(f32::NEG_INFINITY);
                                    ops::softmax_axis(ops::select(mask, scores, minus_infinity)?, -1, true)
                                }
                                None => ops::softmax_axis(scores, -1, true),
                            })
                        },
                    },
                ],
            ),
            Exercise::new(
                "queries_keys_values",
                head,
                |(x, weights)| all(day04::queries_keys_values(x, weights, "attn")),
                move |(x, weights)| all((self.queries_keys_values)(x, weights, "attn")),
                TOLERANCE,
                vec![Mistake {
                    hint: "keys and queries have changed places: the first third of `c_attn` are the queries",
                    made: |(x, weights)| {
                        let [q, k, v] = day04::queries_keys_values(x, weights, "attn")?;
                        all(Ok([k, q, v]))
                    },
                }],
            ),
            Exercise::new(
                "one_head",
                head,
                |(x, weights)| value(day04::one_head(x, weights, "attn")),
                move |(x, weights)| value((self.one_head)(x, weights, "attn")),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the mask is missing: tokens see the future",
                        made: |(x, weights)| {
                            value(head_with(x, weights, |q, k| {
                                day04::attention_weights(&day04::scores(q, k)?, None)
                            }))
                        },
                    },
                    Mistake {
                        hint: "the last layer is missing: `{name}.c_proj`",
                        made: |(x, weights)| {
                            let [q, k, v] = day04::queries_keys_values(x, weights, "attn")?;
                            let mask = causal_mask(x.dim(1))?;
                            value(day04::attention_weights(&day04::scores(&q, &k)?, Some(&mask))?.matmul(&v))
                        },
                    },
                    Mistake {
                        hint: "the scale is missing: the scores are not divided by the root of the head size",
                        made: |(x, weights)| {
                            value(head_with(x, weights, |q, k| {
                                let products = q.matmul(k.swap_axes(-1, -2)?)?;
                                day04::attention_weights(&products, Some(&causal_mask(q.dim(1))?))
                            }))
                        },
                    },
                    Mistake {
                        hint: "the weights sum up keys: they are for the values",
                        made: |(x, weights)| {
                            let [q, k, _] = day04::queries_keys_values(x, weights, "attn")?;
                            let mask = causal_mask(x.dim(1))?;
                            let attention = day04::attention_weights(&day04::scores(&q, &k)?, Some(&mask))?;
                            value(day04::linear(&attention.matmul(&k)?, weights, "attn.c_proj"))
                        },
                    },
                ],
            ),
        ]
    }
}

/// A linear layer of random numbers, its weight scaled so that results are around 1.
pub fn layer(draw: &mut Draw, name: &str, from: i32, to: i32) -> Result<Weights> {
    let scale = Array::from_f32((from as f32).powf(-0.5));
    Ok([
        (format!("{name}.weight"), draw.normal(&[from, to])?.multiply(scale)?),
        (format!("{name}.bias"), draw.normal(&[to])?),
    ]
    .into())
}

/// Vectors `[2, T, C]` and the layers of an attention `attn`.
pub fn head(draw: &mut Draw) -> Result<(Array, Weights)> {
    let (tokens, channels) = (draw.size(4, 7), 4 * draw.size(2, 3));
    let mut weights = layer(draw, "attn.c_attn", channels, 3 * channels)?;
    weights.extend(layer(draw, "attn.c_proj", channels, channels)?);
    Ok((draw.normal(&[2, tokens, channels])?, weights))
}

/// A head whose weights come from `attend`.
fn head_with(
    x: &Array,
    weights: &Weights,
    attend: fn(&Array, &Array) -> mlx_rs::error::Result<Array>,
) -> mlx_rs::error::Result<Array> {
    let [q, k, v] = day04::queries_keys_values(x, weights, "attn")?;
    day04::linear(&attend(&q, &k)?.matmul(&v)?, weights, "attn.c_proj")
}

fn all(arrays: mlx_rs::error::Result<[Array; 3]>) -> Result<Value> {
    Value::arrays(&arrays?)
}

/// Weights with the mask and without it.
fn both(
    scores: &Array,
    mask: &Array,
    weights: fn(&Array, Option<&Array>) -> mlx_rs::error::Result<Array>,
) -> Result<Value> {
    Value::arrays(&[weights(scores, Some(mask))?, weights(scores, None)?])
}

fn masked(scores: &Array, mask: Option<&Array>, hidden: f32) -> mlx_rs::error::Result<Array> {
    match mask {
        Some(mask) => ops::select(mask, Array::from_f32(hidden), scores),
        None => Ok(scores.clone()),
    }
}

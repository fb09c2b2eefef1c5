//! Day 5: many heads.

use anyhow::Result;
use mlx_gpt::course::day03::{Weights, causal_mask};
use mlx_gpt::course::day04::{self, attention_weights, linear, queries_keys_values, scores};
use mlx_gpt::course::day05;
use mlx_rs::{Array, ops};

use super::day04::head;
use super::exercise::{Draw, Exercise, Mistake};
use super::value::value;

/// The learner's functions of day 5.
#[derive(Clone, Copy)]
pub struct Day05 {
    pub heads_by_loop: fn(&[Array; 3], i32) -> mlx_rs::error::Result<Array>,
    pub split_heads: fn(&Array, i32) -> mlx_rs::error::Result<Array>,
    pub merge_heads: fn(&Array) -> mlx_rs::error::Result<Array>,
    pub multi_head_attention: fn(&Array, &Weights, &str, i32) -> mlx_rs::error::Result<Array>,
}

const HEADS: i32 = 4;
/// Sums of some ten products of numbers around 1 in float32, in any order.
const TOLERANCE: f64 = 1e-5;

impl Day05 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<[Array; 3]>(
                "heads_by_loop",
                |draw| {
                    let (x, weights) = head(draw)?;
                    Ok(queries_keys_values(&x, &weights, "attn")?)
                },
                |qkv| value(day05::heads_by_loop(qkv, HEADS)),
                move |qkv| value((self.heads_by_loop)(qkv, HEADS)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "this is one head as wide as all: split queries, keys and values first",
                        made: |qkv| value(day05::heads_by_loop(qkv, 1)),
                    },
                    Mistake {
                        hint: "the mask is missing: tokens see the future",
                        made: |qkv| value(without_mask(qkv)),
                    },
                    Mistake {
                        hint: "the heads are in the opposite order: put them side by side as they come",
                        made: |qkv| {
                            let whole = day05::heads_by_loop(qkv, HEADS)?;
                            let mut parts = whole.split_equal(HEADS, -1)?;
                            parts.reverse();
                            value(ops::concatenate(&parts, -1))
                        },
                    },
                ],
            ),
            Exercise::new::<Array>(
                "split_heads",
                vectors,
                |x| value(day05::split_heads(x, HEADS)),
                move |x| value((self.split_heads)(x, HEADS)),
                0.0,
                vec![
                    Mistake {
                        hint: "heads and tokens are mixed up: reshape to `[B, T, H, D]` first, then transpose; a reshape alone cuts the text into pieces",
                        made: |x| value(x.reshape(&[x.dim(0), HEADS, x.dim(1), x.dim(2) / HEADS])),
                    },
                    Mistake {
                        hint: "the transpose is missing: heads come before tokens, `[B, H, T, D]`",
                        made: |x| value(x.reshape(&[x.dim(0), x.dim(1), HEADS, x.dim(2) / HEADS])),
                    },
                    Mistake {
                        hint: "the last axis is H heads of D numbers, not D times H: reshape to `[B, T, H, D]`",
                        made: |x| {
                            let apart = x.reshape(&[x.dim(0), x.dim(1), x.dim(2) / HEADS, HEADS])?;
                            value(apart.transpose_axes(&[0, 3, 1, 2]))
                        },
                    },
                ],
            ),
            Exercise::new::<Array>(
                "merge_heads",
                |draw| Ok(day05::split_heads(&vectors(draw)?, HEADS)?),
                |x| value(day05::merge_heads(x)),
                move |x| value((self.merge_heads)(x)),
                0.0,
                vec![Mistake {
                    hint: "heads and tokens are mixed up: transpose first, then reshape",
                    made: |x| value(x.reshape(&[x.dim(0), x.dim(2), x.dim(1) * x.dim(3)])),
                }],
            ),
            Exercise::new(
                "multi_head_attention",
                head,
                |(x, weights)| value(day05::multi_head_attention(x, weights, "attn", HEADS)),
                move |(x, weights)| value((self.multi_head_attention)(x, weights, "attn", HEADS)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "this is one head as wide as all: split queries, keys and values",
                        made: |(x, weights)| value(day04::one_head(x, weights, "attn")),
                    },
                    Mistake {
                        hint: "the last layer is missing: `{name}.c_proj`",
                        made: |(x, weights)| {
                            value(day05::heads_by_loop(&queries_keys_values(x, weights, "attn")?, HEADS))
                        },
                    },
                    Mistake {
                        hint: "the mask is missing: tokens see the future",
                        made: |(x, weights)| {
                            let gathered = without_mask(&queries_keys_values(x, weights, "attn")?)?;
                            value(linear(&gathered, weights, "attn.c_proj"))
                        },
                    },
                    Mistake {
                        hint: "heads are mixed up when they are merged: transpose first, then reshape",
                        made: |(x, weights)| {
                            let qkv = queries_keys_values(x, weights, "attn")?;
                            let apart = day05::split_heads(&day05::heads_by_loop(&qkv, HEADS)?, HEADS)?;
                            value(linear(&apart.reshape(x.shape())?, weights, "attn.c_proj"))
                        },
                    },
                ],
            ),
        ]
    }
}

/// Vectors `[2, T, 4 D]` with T other than D and H.
fn vectors(draw: &mut Draw) -> Result<Array> {
    let tokens = draw.size(5, 7);
    draw.normal(&[2, tokens, HEADS * 3])
}

/// Heads that see the future, `[B, T, C]`.
fn without_mask(qkv: &[Array; 3]) -> mlx_rs::error::Result<Array> {
    let mask = ops::logical_and(causal_mask(qkv[0].dim(1))?, Array::from_bool(false))?;
    let mut gathered = Vec::new();
    let [q, k, v] = [&qkv[0], &qkv[1], &qkv[2]].map(|x| x.split_equal(HEADS, -1));
    for ((q, k), v) in q?.iter().zip(k?).zip(v?) {
        gathered.push(attention_weights(&scores(q, &k)?, Some(&mask))?.matmul(&v)?);
    }
    ops::concatenate(&gathered, -1)
}

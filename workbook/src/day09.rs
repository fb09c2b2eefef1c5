//! Day 9: from logits to text.

use anyhow::Result;
use mlx_gpt::course::day03::{Weights, embed};
use mlx_gpt::course::day05::multi_head_attention;
use mlx_gpt::course::day07::{self, Shape};
use mlx_gpt::course::day09::{self, Cache, LayerCache};
use mlx_rs::Array;
use mlx_rs::ops::indexing::TryIndexOp;

use super::day04::head;
use super::day07::small;
use super::exercise::{Draw, Exercise, Mistake};
use super::value::{Value, value};

/// The tokens after a prompt, as many as asked for, each chosen by its logits and the tokens that the model looks at.
pub type Generate = fn(&[u32], usize, &Weights, &Shape, &mut dyn FnMut(&[f32], &[u32]) -> u32) -> Result<Vec<u32>>;

/// The learner's functions of day 9.
#[derive(Clone, Copy)]
pub struct Day09 {
    pub softmax: fn(&[f32]) -> Vec<f32>,
    pub temperature: fn(&[f32], f32) -> Vec<f32>,
    pub top_k: fn(&[f32], usize) -> Vec<f32>,
    pub top_p: fn(&[f32], f32) -> Vec<f32>,
    pub min_p: fn(&[f32], f32) -> Vec<f32>,
    pub repetition_penalty: fn(&[f32], &[u32], f32) -> Vec<f32>,
    pub attention_with_cache: fn(&Array, &Weights, &str, i32, &mut LayerCache) -> mlx_rs::error::Result<Array>,
    /// The logits for pieces of a text, one after the other, with one cache.
    pub gpt_with_cache: fn(&[Array], &Weights, &Shape) -> mlx_rs::error::Result<Vec<Array>>,
    pub cache_bytes: fn(&Shape) -> usize,
    pub push: fn(&mut Vec<u32>, u32, usize) -> bool,
    pub generate: Generate,
    pub moved: fn(&Array, &Array) -> mlx_rs::error::Result<Array>,
}

const HEADS: i32 = 4;
/// Probabilities and logits around 1 in float32.
const TOLERANCE: f64 = 1e-5;
/// Some hundred operations.
const MODEL_TOLERANCE: f64 = 1e-4;

impl Day09 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        let mut exercises = self.samplers();
        exercises.extend(self.caches());
        exercises
    }

    fn samplers(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<Vec<f32>>(
                "softmax",
                |draw| {
                    let large = draw.in_turn(&[0.0, 200.0]);
                    Ok(logits(draw)?.into_iter().map(|logit| logit + large).collect())
                },
                |logits| list(&day09::softmax(logits)),
                move |logits| list(&(self.softmax)(logits)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "`exp` overflows at large logits: subtract the largest first",
                        made: |logits| {
                            let powers: Vec<f32> = logits.iter().map(|logit| logit.exp()).collect();
                            let total: f32 = powers.iter().sum();
                            list(&powers.iter().map(|power| power / total).collect::<Vec<_>>())
                        },
                    },
                    Mistake {
                        hint: "they do not add up to 1: divide by their sum",
                        made: |logits| {
                            let largest = logits.iter().copied().fold(f32::MIN, f32::max);
                            list(&logits.iter().map(|logit| (logit - largest).exp()).collect::<Vec<_>>())
                        },
                    },
                ],
            ),
            Exercise::new::<(Vec<f32>, f32)>(
                "temperature",
                |draw| Ok((logits(draw)?, 0.1 * draw.size(2, 8) as f32)),
                |(logits, t)| list(&day09::temperature(logits, *t)),
                move |(logits, t)| list(&(self.temperature)(logits, *t)),
                TOLERANCE,
                vec![Mistake {
                    hint: "the logits are multiplied: divide, so that a low temperature makes large differences larger",
                    made: |(logits, t)| list(&day09::temperature(logits, 1.0 / t)),
                }],
            ),
            Exercise::new::<(Vec<f32>, usize)>(
                "top_k",
                |draw| Ok((logits(draw)?, draw.size(2, 5) as usize)),
                |(logits, k)| list(&day09::top_k(logits, *k)),
                move |(logits, k)| list(&(self.top_k)(logits, *k)),
                0.0,
                vec![
                    Mistake {
                        hint: "the k least likely tokens are kept: take the others",
                        made: |(logits, k)| {
                            let ranked = day09::ranked(logits);
                            list(&day09::keep(logits, &ranked[ranked.len() - k..]))
                        },
                    },
                    Mistake {
                        hint: "the first k ids are kept: take the k most likely",
                        made: |(logits, k)| list(&day09::keep(logits, &(0..*k).collect::<Vec<_>>())),
                    },
                    Mistake {
                        hint: "one token too many is kept",
                        made: |(logits, k)| list(&day09::top_k(logits, k + 1)),
                    },
                ],
            ),
            Exercise::new::<(Vec<f32>, f32)>(
                "top_p",
                |draw| Ok((logits(draw)?, 0.1 * draw.size(5, 8) as f32)),
                |(logits, p)| list(&day09::top_p(logits, *p)),
                move |(logits, p)| list(&(self.top_p)(logits, *p)),
                0.0,
                vec![
                    Mistake {
                        hint: "the token with which the sum crosses p is dropped: keep it, so that what is left adds up to p or more",
                        made: |(logits, p)| {
                            let kept = day09::top_p(logits, *p)
                                .iter()
                                .filter(|logit| logit.is_finite())
                                .count();
                            list(&day09::top_k(logits, kept - 1))
                        },
                    },
                    Mistake {
                        hint: "one token too many is kept: stop as soon as the sum has reached p",
                        made: |(logits, p)| {
                            let kept = day09::top_p(logits, *p)
                                .iter()
                                .filter(|logit| logit.is_finite())
                                .count();
                            list(&day09::top_k(logits, kept + 1))
                        },
                    },
                    Mistake {
                        hint: "the tokens are not ranked: the sum goes from the most likely one down",
                        made: |(logits, p)| {
                            let probabilities = day09::softmax(logits);
                            let (mut sum, mut kept) = (0.0, Vec::new());
                            for (id, probability) in probabilities.iter().enumerate() {
                                if sum >= *p {
                                    break;
                                }
                                sum += probability;
                                kept.push(id);
                            }
                            list(&day09::keep(logits, &kept))
                        },
                    },
                ],
            ),
            Exercise::new::<(Vec<f32>, f32)>(
                "min_p",
                |draw| Ok((logits(draw)?, 0.05 * draw.size(2, 6) as f32)),
                |(logits, p)| list(&day09::min_p(logits, *p)),
                move |(logits, p)| list(&(self.min_p)(logits, *p)),
                0.0,
                vec![Mistake {
                    hint: "p is a fraction of the most likely token's probability, not a probability itself",
                    made: |(logits, p)| {
                        let probabilities = day09::softmax(logits);
                        let kept = (0..logits.len()).filter(|&id| probabilities[id] >= *p);
                        list(&day09::keep(logits, &kept.collect::<Vec<_>>()))
                    },
                }],
            ),
            Exercise::new::<(Vec<f32>, Vec<u32>)>(
                "repetition_penalty",
                |draw| {
                    let seen = draw.size(0, 3) as u32;
                    Ok((logits(draw)?, vec![seen, 5, seen, 7]))
                },
                |(logits, seen)| list(&day09::repetition_penalty(logits, seen, 1.5)),
                move |(logits, seen)| list(&(self.repetition_penalty)(logits, seen, 1.5)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "a negative logit divided by the penalty is larger: multiply it",
                        made: |(logits, seen)| {
                            let mut changed = logits.clone();
                            seen.iter()
                                .for_each(|&id| changed[id as usize] = logits[id as usize] / 1.5);
                            list(&changed)
                        },
                    },
                    Mistake {
                        hint: "a token that was seen twice is changed twice: take its logit from `logits`",
                        made: |(logits, seen)| {
                            let once = day09::repetition_penalty(logits, seen, 1.5);
                            list(&day09::repetition_penalty(&once, &seen[..1], 1.5))
                        },
                    },
                ],
            ),
        ]
    }

    fn caches(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<(Array, Weights)>(
                "attention_with_cache",
                head,
                |(x, weights)| in_pieces(x, weights, day09::attention_with_cache),
                move |(x, weights)| in_pieces(x, weights, self.attention_with_cache),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the cache is not used: new tokens attend to themselves alone",
                        made: |(x, weights)| {
                            in_pieces(x, weights, |x, weights, name, heads, _| {
                                multi_head_attention(x, weights, name, heads)
                            })
                        },
                    },
                    Mistake {
                        hint: "the cache has only the last tokens: keep all keys and values, old and new",
                        made: |(x, weights)| {
                            in_pieces(x, weights, |x, weights, name, heads, cache| {
                                let tokens = x.dim(1);
                                let y = day09::attention_with_cache(x, weights, name, heads, cache)?;
                                if let Some([keys, values]) = cache {
                                    let from = keys.dim(2) - tokens;
                                    *keys = keys.try_index((.., .., from..))?;
                                    *values = values.try_index((.., .., from..))?;
                                }
                                Ok(y)
                            })
                        },
                    },
                ],
            ),
            Exercise::new::<(Shape, Weights, Vec<Array>)>(
                "gpt_with_cache",
                |draw| {
                    let (shape, weights) = small(draw)?;
                    let pieces = [3, 1, 2].map(|tokens| draw.ids(&[1, tokens], shape.vocab_size));
                    Ok((shape, weights, pieces.to_vec()))
                },
                |(shape, weights, pieces)| Value::numbers(&pieces_by_course(pieces, weights, shape)?),
                move |(shape, weights, pieces)| Value::numbers(&(self.gpt_with_cache)(pieces, weights, shape)?),
                MODEL_TOLERANCE,
                vec![
                    Mistake {
                        hint: "the positions start again at 0: they go on where the cache ends, at `cache.tokens()`",
                        made: |(shape, weights, pieces)| {
                            let mut cache = Cache::new(shape.layers);
                            let mut logits = Vec::new();
                            for ids in pieces {
                                // Embeddings that cancel what the position adds, and those of position 0 on.
                                let right = embed(ids, weights, cache.tokens())?;
                                let wrong = embed(ids, weights, 0)?.subtract(right)?;
                                logits.push(shifted(ids, weights, shape, &mut cache, &wrong)?);
                            }
                            Value::numbers(&logits)
                        },
                    },
                    Mistake {
                        hint: "the cache is not used: each piece is a text of its own",
                        made: |(shape, weights, pieces)| {
                            let logits = pieces.iter().map(|ids| day07::gpt(ids, weights, shape));
                            Value::numbers(&logits.collect::<mlx_rs::error::Result<Vec<_>>>()?)
                        },
                    },
                ],
            ),
            Exercise::new::<Shape>(
                "cache_bytes",
                |draw| {
                    let heads = draw.size(2, 12);
                    Ok(Shape {
                        vocab_size: 50_257,
                        context: 64 * draw.size(1, 16),
                        layers: draw.size(2, 48),
                        heads,
                        embd: 64 * heads,
                    })
                },
                |shape| Ok(Value::list([day09::cache_bytes(shape) as f64])),
                move |shape| Ok(Value::list([(self.cache_bytes)(shape) as f64])),
                0.0,
                vec![
                    Mistake {
                        hint: "there are keys and values: twice as many",
                        made: |shape| Ok(Value::list([day09::cache_bytes(shape) as f64 / 2.0])),
                    },
                    Mistake {
                        hint: "these are numbers: a float32 has four bytes",
                        made: |shape| Ok(Value::list([day09::cache_bytes(shape) as f64 / 4.0])),
                    },
                ],
            ),
            Exercise::new::<(Vec<u32>, usize)>(
                "push",
                |draw| {
                    let context = draw.size(3, 8) as usize;
                    Ok(((0..20).map(|_| draw.size(0, 99) as u32).collect(), context))
                },
                |(ids, context)| pushed(ids, *context, day09::push),
                move |(ids, context)| pushed(ids, *context, self.push),
                0.0,
                vec![
                    Mistake {
                        hint: "one token is dropped at a time: drop all but the last half, so that the cache is thrown away seldom",
                        made: |(ids, context)| {
                            pushed(ids, *context, |window, id, context| {
                                let full = window.len() == context;
                                if full {
                                    window.remove(0);
                                }
                                window.push(id);
                                full
                            })
                        },
                    },
                    Mistake {
                        hint: "the first half is kept: the last tokens matter",
                        made: |(ids, context)| {
                            pushed(ids, *context, |window, id, context| {
                                let full = window.len() == context;
                                if full {
                                    window.truncate(context / 2);
                                }
                                window.push(id);
                                full
                            })
                        },
                    },
                ],
            ),
            Exercise::new::<(Shape, Weights, Vec<u32>)>(
                "generate",
                |draw| {
                    let (shape, weights) = small(draw)?;
                    let prompt = (0..3).map(|_| draw.size(0, shape.vocab_size - 1) as u32).collect();
                    Ok((shape, weights, prompt))
                },
                |(shape, weights, prompt)| ids(&most_likely(prompt, weights, shape)?),
                move |(shape, weights, prompt)| {
                    ids(&(self.generate)(prompt, TOKENS, weights, shape, &mut most_likely_id)?)
                },
                0.0,
                vec![
                    Mistake {
                        hint: "the prompt is part of the result: give the new tokens alone",
                        made: |(shape, weights, prompt)| {
                            ids(&[&prompt[..], &most_likely(prompt, weights, shape)?].concat())
                        },
                    },
                    Mistake {
                        hint: "only the last token of the prompt is given to the model: all of them go in first",
                        made: |(shape, weights, prompt)| {
                            ids(&most_likely(&prompt[prompt.len() - 1..], weights, shape)?)
                        },
                    },
                ],
            ),
            Exercise::new::<[Array; 2]>(
                "moved",
                |draw| Ok([draw.normal(&[4, 3])?, draw.normal(&[4, 3])?]),
                |[before, after]| value(day09::moved(before, after)),
                move |[before, after]| value((self.moved)(before, after)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "these are the columns: add up over the last axis, -1, to one number for each row",
                        made: |[before, after]| value(day09::moved(&before.transpose()?, &after.transpose()?)),
                    },
                    Mistake {
                        hint: "these are the squares of the lengths: take the root",
                        made: |[before, after]| value(day09::moved(before, after)?.square()),
                    },
                ],
            ),
        ]
    }
}

/// Tokens that are generated: more than fit into the context.
const TOKENS: usize = 12;

fn logits(draw: &mut Draw) -> Result<Vec<f32>> {
    Ok(draw.normal(&[12])?.multiply(Array::from_f32(2.0))?.to_vec_exact()?)
}

fn list(numbers: &[f32]) -> Result<Value> {
    Ok(Value::list(numbers.iter().copied()))
}

fn ids(ids: &[u32]) -> Result<Value> {
    Ok(Value::list(ids.iter().copied()))
}

/// Attention to x in three pieces, with one cache.
fn in_pieces(
    x: &Array,
    weights: &Weights,
    attention: fn(&Array, &Weights, &str, i32, &mut LayerCache) -> mlx_rs::error::Result<Array>,
) -> Result<Value> {
    let mut cache = None;
    let mut pieces = Vec::new();
    for piece in [
        x.try_index((.., ..2))?,
        x.try_index((.., 2..3))?,
        x.try_index((.., 3..))?,
    ] {
        pieces.push(attention(&piece, weights, "attn", HEADS, &mut cache)?);
    }
    Value::numbers(&pieces)
}

fn pieces_by_course(pieces: &[Array], weights: &Weights, shape: &Shape) -> mlx_rs::error::Result<Vec<Array>> {
    let mut cache = Cache::new(shape.layers);
    let logits = pieces
        .iter()
        .map(|ids| day09::gpt_with_cache(ids, weights, shape, &mut cache));
    logits.collect()
}

/// Logits of a model whose positions' vectors are changed for this piece.
fn shifted(
    ids: &Array,
    weights: &Weights,
    shape: &Shape,
    cache: &mut Cache,
    wrong: &Array,
) -> mlx_rs::error::Result<Array> {
    let (start, tokens) = (cache.tokens(), ids.dim(1));
    let mut weights = weights.clone();
    let positions = &weights["wpe.weight"];
    let before = positions.try_index(..start)?;
    let changed = positions.try_index(start..start + tokens)?.add(wrong.try_index(0)?)?;
    let after = positions.try_index(start + tokens..)?;
    let all = mlx_rs::ops::concatenate(&[&before, &changed, &after], 0)?;
    weights.insert("wpe.weight".into(), all);
    day09::gpt_with_cache(ids, &weights, shape, cache)
}

/// The window after each token.
fn pushed(ids: &[u32], context: usize, push: fn(&mut Vec<u32>, u32, usize) -> bool) -> Result<Value> {
    let (mut window, mut numbers) = (Vec::new(), Vec::new());
    for &id in ids {
        let full = push(&mut window, id, context);
        numbers.push(u32::from(full));
        numbers.extend(&window);
    }
    Ok(Value::list(numbers))
}

/// The most likely tokens after a prompt, by the course's functions.
fn most_likely(prompt: &[u32], weights: &Weights, shape: &Shape) -> Result<Vec<u32>> {
    Ok(day09::generate(prompt, TOKENS, weights, shape, &mut most_likely_id)?)
}

fn most_likely_id(logits: &[f32], _: &[u32]) -> u32 {
    day09::ranked(logits)[0] as u32
}

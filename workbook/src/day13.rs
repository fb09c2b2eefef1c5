//! Day 13: new tokens, and the targets of conversations.

use mlx_gpt::course::day13;
use mlx_rs::{Array, ops};

use super::exercise::{Draw, Exercise, Mistake};
use super::value::{Value, value};

/// The learner's functions of day 13.
#[derive(Clone, Copy)]
pub struct Day13 {
    pub add_tokens: fn(&Array, i32) -> mlx_rs::error::Result<Array>,
    pub answer_targets: fn(&[u32], u32, u32) -> Vec<Option<u32>>,
}

/// Special tokens: user, assistant, end of a turn. Others are above.
const USER: u32 = 0;
const ASSISTANT: u32 = 1;
const END: u32 = 2;
/// A mean of a few numbers around 1 in float32.
const TOLERANCE: f64 = 1e-6;

impl Day13 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<(Array, i32)>(
                "add_tokens",
                |draw| Ok((draw.normal(&[5, 3])?, draw.size(1, 4))),
                |(embedding, count)| value(day13::add_tokens(embedding, *count)),
                move |(embedding, count)| value((self.add_tokens)(embedding, *count)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the new rows are 0: they are the mean of the old ones",
                        made: |(embedding, count)| {
                            let new = Array::zeros::<f32>(&[*count, embedding.dim(1)])?;
                            value(ops::concatenate(&[embedding, &new], 0))
                        },
                    },
                    Mistake {
                        hint: "this is the mean of all numbers: each column has its own, the mean over the first axis",
                        made: |(embedding, count)| {
                            let new = ops::broadcast_to(&embedding.mean(None)?, &[*count, embedding.dim(1)])?;
                            value(ops::concatenate(&[embedding, &new], 0))
                        },
                    },
                    Mistake {
                        hint: "the new rows come after the old ones, whose ids stay the same",
                        made: |(embedding, count)| {
                            let new = ops::broadcast_to(&embedding.mean_axis(0, true)?, &[*count, embedding.dim(1)])?;
                            value(ops::concatenate(&[&new, embedding], 0))
                        },
                    },
                    Mistake {
                        hint: "only one row is new: repeat the mean `count` times",
                        made: |(embedding, _)| value(day13::add_tokens(embedding, 1)),
                    },
                ],
            ),
            Exercise::new::<Vec<u32>>(
                "answer_targets",
                |draw| Ok(conversation(draw)),
                |ids| Ok(of_targets(day13::answer_targets(ids, ASSISTANT, END))),
                move |ids| Ok(of_targets((self.answer_targets)(ids, ASSISTANT, END))),
                0.0,
                vec![
                    Mistake {
                        hint: "the end of an answer is no target here, so that the model would never stop",
                        made: |ids| {
                            let targets = day13::answer_targets(ids, ASSISTANT, END).into_iter();
                            Ok(of_targets(targets.map(|target| target.filter(|&id| id != END))))
                        },
                    },
                    Mistake {
                        hint: "the first token of an answer is no target here: it follows `assistant`",
                        made: |ids| {
                            let mut targets = day13::answer_targets(ids, ASSISTANT, END);
                            for (target, _) in targets.iter_mut().zip(ids).filter(|(_, id)| **id == ASSISTANT) {
                                *target = None;
                            }
                            Ok(of_targets(targets))
                        },
                    },
                    Mistake {
                        hint: "the user's tokens are targets too: stop at `end_of_turn`",
                        made: |ids| {
                            let first = ids.iter().position(|&id| id == ASSISTANT).unwrap_or(ids.len());
                            let targets = ids.windows(2).enumerate();
                            Ok(of_targets(targets.map(|(at, pair)| (at >= first).then_some(pair[1]))))
                        },
                    },
                    Mistake {
                        hint: "a target is the next token, not the token itself",
                        made: |ids| {
                            let targets = day13::answer_targets(ids, ASSISTANT, END).into_iter();
                            Ok(of_targets(targets.zip(ids).map(|(target, &id)| target.map(|_| id))))
                        },
                    },
                ],
            ),
        ]
    }
}

/// Two turns of each, the answers of which have two tokens at least.
fn conversation(draw: &mut Draw) -> Vec<u32> {
    let mut ids = Vec::new();
    for speaker in [USER, ASSISTANT, USER, ASSISTANT] {
        ids.push(speaker);
        ids.extend((0..draw.size(2, 4)).map(|_| draw.size(3, 9) as u32));
        ids.push(END);
    }
    ids
}

/// Targets as numbers, -1 where there is none.
fn of_targets(targets: impl IntoIterator<Item = Option<u32>>) -> Value {
    Value::list(targets.into_iter().map(|target| target.map_or(-1.0, f64::from)))
}

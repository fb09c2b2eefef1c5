//! Day 14: rewards and preferences.

use mlx_gpt::course::day14;
use mlx_rs::Array;
use mlx_rs::error::Result;

use super::exercise::{Draw, Exercise, Mistake};
use super::value::{Value, value};

/// The learner's functions of day 14.
#[derive(Clone, Copy)]
pub struct Day14 {
    pub advantages: fn(&[f32]) -> Vec<f32>,
    pub kl_k3: fn(&Array, &Array) -> Result<Array>,
    pub dpo_loss: fn(&Array, &Array, f32) -> Result<Array>,
}

/// DPO's β.
const BETA: f32 = 0.5;
/// Exponentials and logarithms of a few numbers around 1 in float32.
const TOLERANCE: f64 = 1e-5;

impl Day14 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<Vec<f32>>(
                "advantages",
                |draw| {
                    // The first is right and the second wrong; or in one round all are right.
                    let second = draw.in_turn(&[0, 1, 0]);
                    let mut rewards = vec![1.0, second as f32];
                    rewards.extend((0..4).map(|_| draw.size(second, 1) as f32));
                    Ok(rewards)
                },
                |rewards| Ok(Value::list(day14::advantages(rewards))),
                move |rewards| Ok(Value::list((self.advantages)(rewards))),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "these are differences from the mean: divide them by the standard deviation",
                        made: |rewards| {
                            let mean = mean(rewards);
                            Ok(Value::list(rewards.iter().map(|reward| reward - mean)))
                        },
                    },
                    Mistake {
                        hint: "the squares are divided by n: the deviation of a sample has n − 1",
                        made: |rewards| Ok(Value::list(standardised(rewards, rewards.len() as f32, 1e-4))),
                    },
                    Mistake {
                        hint: "equal rewards are divided by 0: add 0.0001 to the deviation",
                        made: |rewards| Ok(Value::list(standardised(rewards, rewards.len() as f32 - 1.0, 0.0))),
                    },
                ],
            ),
            Exercise::new::<(Array, Array)>(
                "kl_k3",
                |draw| Ok((logprobs(draw, &[2, 3])?, logprobs(draw, &[2, 3])?)),
                |(logprobs, reference)| value(day14::kl_k3(logprobs, reference)),
                move |(logprobs, reference)| value((self.kl_k3)(logprobs, reference)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the models have changed places: the ratio is that of the reference to the model",
                        made: |(logprobs, reference)| value(day14::kl_k3(reference, logprobs)),
                    },
                    Mistake {
                        hint: "this is the plain log-ratio, which may be negative",
                        made: |(logprobs, reference)| value(logprobs.subtract(reference)),
                    },
                    Mistake {
                        hint: "1 is missing: where both models agree, it is 0",
                        made: |(logprobs, reference)| {
                            value(day14::kl_k3(logprobs, reference)?.add(Array::from_f32(1.0)))
                        },
                    },
                ],
            ),
            Exercise::new::<(Array, Array)>(
                "dpo_loss",
                |draw| Ok((logprobs(draw, &[3, 2])?, logprobs(draw, &[3, 2])?)),
                |(logprobs, reference)| value(day14::dpo_loss(logprobs, reference, BETA)),
                move |(logprobs, reference)| value((self.dpo_loss)(logprobs, reference, BETA)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the answers have changed places: column 0 is the chosen one",
                        made: |(logprobs, reference)| value(day14::dpo_loss(logprobs, reference, -BETA)),
                    },
                    Mistake {
                        hint: "`beta` is missing",
                        made: |(logprobs, reference)| value(day14::dpo_loss(logprobs, reference, 1.0)),
                    },
                    Mistake {
                        hint: "the reference model is missing: rewards are log-ratios",
                        made: |(logprobs, _)| {
                            let none = Array::zeros::<f32>(logprobs.shape())?;
                            value(day14::dpo_loss(logprobs, &none, BETA))
                        },
                    },
                    Mistake {
                        hint: "this is the sum over the pairs: take the mean",
                        made: |(logprobs, reference)| {
                            let pairs = Array::from_f32(logprobs.dim(0) as f32);
                            value(day14::dpo_loss(logprobs, reference, BETA)?.multiply(pairs))
                        },
                    },
                ],
            ),
        ]
    }
}

/// Numbers below 0.
fn logprobs(draw: &mut Draw, shape: &[i32]) -> anyhow::Result<Array> {
    Ok(draw.normal(shape)?.abs()?.negative()?)
}

fn mean(rewards: &[f32]) -> f32 {
    rewards.iter().sum::<f32>() / rewards.len() as f32
}

/// Differences from the mean, over the root of their squares' sum over `count`, and `added`.
fn standardised(rewards: &[f32], count: f32, added: f32) -> Vec<f32> {
    let mean = mean(rewards);
    let squares: f32 = rewards.iter().map(|reward| (reward - mean).powi(2)).sum();
    let deviation = (squares / count).sqrt() + added;
    rewards.iter().map(|reward| (reward - mean) / deviation).collect()
}

//! Day 8: a step of training.

use anyhow::Result;
use mlx_gpt::course::day03::Weights;
use mlx_gpt::course::day07::Shape;
use mlx_gpt::course::day08::{self, Hyperparameters, Step, TrainState};
use mlx_rs::Array;

use super::batch::{Batch, HYPERPARAMETERS, Update};
use super::exercise::{Exercise, Mistake};
use super::value::Value;

/// A function that updates a parameter: parameter, gradient, moments, step, rate, β₂, weight decay.
pub type AdamW = fn(&Array, &Array, [&Array; 2], &Array, &Array, f32, f32) -> mlx_rs::error::Result<[Array; 3]>;
/// Loss, gradients' norm, and the state after a step.
pub type StepResult = mlx_rs::error::Result<(Array, Array, TrainState)>;

/// The learner's functions of day 8.
#[derive(Clone, Copy)]
pub struct Day08 {
    pub loss_and_gradients: fn(&Weights, &Array, &Array, &Shape) -> mlx_rs::error::Result<(Array, Vec<Array>)>,
    pub adamw: AdamW,
    pub learning_rate: fn(u64, u64, u64, f32, f32) -> f32,
    pub clip: fn(&[Array], f32) -> mlx_rs::error::Result<(Vec<Array>, Array)>,
    pub train_step: fn(&TrainState, [&Array; 2], [&Array; 2], &Shape, &Hyperparameters) -> StepResult,
    pub compiled_step: fn(Vec<String>, Shape, Hyperparameters) -> Step,
    pub bits_per_byte: fn(f64, usize, usize) -> f64,
}

/// Gradients are sums over a small model's paths, in float32.
const TOLERANCE: f64 = 1e-4;
/// Some operations on numbers around 1.
const UPDATE_TOLERANCE: f64 = 3e-6;

impl Day08 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<Batch>(
                "loss_and_gradients",
                Batch::draw,
                |batch| differentiated(batch, day08::loss_and_gradients),
                move |batch| differentiated(batch, self.loss_and_gradients),
                TOLERANCE,
                vec![Mistake {
                    hint: "only the first array's gradient is computed: give the indices of all",
                    made: |batch| {
                        differentiated(batch, |weights, ids, targets, shape| {
                            let (loss, mut gradients) = day08::loss_and_gradients(weights, ids, targets, shape)?;
                            gradients.truncate(1);
                            Ok((loss, gradients))
                        })
                    },
                }],
            ),
            Exercise::new::<Update>(
                "adamw",
                Update::draw,
                |update| update.updated(day08::adamw, 0.99, 0.1),
                move |update| update.updated(self.adamw, 0.99, 0.1),
                UPDATE_TOLERANCE,
                vec![
                    Mistake {
                        hint: "the bias correction is forgotten: divide m by 1 − 0.9ᵗ, and v by 1 − β₂ᵗ",
                        made: |update| {
                            update.updated(
                                |p, g, m, _, lr, beta2, decay| {
                                    let late = Array::from_f32(1e6); // where the corrections are 1
                                    day08::adamw(p, g, m, &late, lr, beta2, decay)
                                },
                                0.99,
                                0.1,
                            )
                        },
                    },
                    Mistake {
                        hint: "steps count from 1: at step 0 the corrections would divide by zero",
                        made: |update| {
                            update.updated(
                                |p, g, m, step, lr, beta2, decay| {
                                    day08::adamw(p, g, m, &step.add(Array::from_f32(1.0))?, lr, beta2, decay)
                                },
                                0.99,
                                0.1,
                            )
                        },
                    },
                    Mistake {
                        hint: "the weight decay is missing",
                        made: |update| update.updated(day08::adamw, 0.99, 0.0),
                    },
                    Mistake {
                        hint: "biases and gains decay as well: only arrays of two axes or more do",
                        made: |update| {
                            update.updated(
                                |p, g, m, step, lr, beta2, decay| {
                                    let row = |x: &Array| x.reshape(&[1, -1]);
                                    let moments = [&row(m[0])?, &row(m[1])?];
                                    let updated = day08::adamw(&row(p)?, &row(g)?, moments, step, lr, beta2, decay)?;
                                    let [p_new, m_new, v_new] = updated.map(|array| array.reshape(p.shape()));
                                    Ok([p_new?, m_new?, v_new?])
                                },
                                0.99,
                                0.1,
                            )
                        },
                    },
                    Mistake {
                        hint: "the weight decay goes into the gradient, as in Adam with L2: AdamW takes it from the parameter directly",
                        made: |update| {
                            update.updated(
                                |p, g, m, step, lr, beta2, decay| {
                                    let g = if p.ndim() >= 2 {
                                        g.add(p.multiply(Array::from_f32(decay))?)?
                                    } else {
                                        g.clone()
                                    };
                                    day08::adamw(p, &g, m, step, lr, beta2, 0.0)
                                },
                                0.99,
                                0.1,
                            )
                        },
                    },
                    Mistake {
                        hint: "the update is added: a step goes against the gradient",
                        made: |update| {
                            update.updated(
                                |p, g, m, step, lr, beta2, decay| {
                                    day08::adamw(p, g, m, step, &lr.negative()?, beta2, decay)
                                },
                                0.99,
                                0.1,
                            )
                        },
                    },
                ],
            ),
            Exercise::new::<[u64; 2]>(
                "learning_rate",
                |draw| Ok([draw.size(5, 20) as u64, draw.size(50, 100) as u64]),
                |&[warmup, steps]| rates(steps, |step| day08::learning_rate(step, warmup, steps, 1.0, 0.1)),
                move |&[warmup, steps]| rates(steps, |step| (self.learning_rate)(step, warmup, steps, 1.0, 0.1)),
                1e-6,
                vec![
                    Mistake {
                        hint: "the warm-up is missing",
                        made: |&[_, steps]| rates(steps, |step| day08::learning_rate(step, 0, steps, 1.0, 0.1)),
                    },
                    Mistake {
                        hint: "it falls to 0: it ends at `min_lr`",
                        made: |&[warmup, steps]| {
                            rates(steps, |step| day08::learning_rate(step, warmup, steps, 1.0, 0.0))
                        },
                    },
                    Mistake {
                        hint: "the warm-up begins with a rate of 0, a step for nothing: lr · (step + 1)/(warmup + 1)",
                        made: |&[warmup, steps]| {
                            rates(steps, |step| {
                                if step < warmup {
                                    step as f32 / warmup as f32
                                } else {
                                    day08::learning_rate(step, warmup, steps, 1.0, 0.1)
                                }
                            })
                        },
                    },
                    Mistake {
                        hint: "the progress of the decay counts from step 0: it begins after the warm-up",
                        made: |&[warmup, steps]| {
                            rates(steps, |step| {
                                let from = if step < warmup { warmup } else { 0 };
                                day08::learning_rate(step, from, steps, 1.0, 0.1)
                            })
                        },
                    },
                ],
            ),
            Exercise::new::<Vec<Array>>(
                "clip",
                |draw| {
                    let scale = Array::from_f32(draw.in_turn(&[0.05, 1.0]));
                    let gradients = [draw.normal(&[3, 4])?, draw.normal(&[5])?, draw.normal(&[2, 2])?];
                    Ok(gradients
                        .iter()
                        .map(|array| array.multiply(&scale))
                        .collect::<mlx_rs::error::Result<_>>()?)
                },
                |gradients| clipped(day08::clip(gradients, 1.0)),
                move |gradients| clipped((self.clip)(gradients, 1.0)),
                UPDATE_TOLERANCE,
                vec![
                    Mistake {
                        hint: "small gradients are made larger: the factor is at most 1",
                        made: |gradients| {
                            let (_, norm) = day08::clip(gradients, 1.0)?;
                            let scaled = gradients
                                .iter()
                                .map(|gradient| gradient.divide(norm.add(Array::from_f32(1e-6))?));
                            clipped(Ok((scaled.collect::<mlx_rs::error::Result<_>>()?, norm)))
                        },
                    },
                    Mistake {
                        hint: "each gradient is clipped on its own: the norm is that of all together",
                        made: |gradients| {
                            let (_, norm) = day08::clip(gradients, 1.0)?;
                            let each = gradients
                                .iter()
                                .map(|gradient| Ok(day08::clip(std::slice::from_ref(gradient), 1.0)?.0.remove(0)));
                            clipped(Ok((each.collect::<mlx_rs::error::Result<_>>()?, norm)))
                        },
                    },
                    Mistake {
                        hint: "each number is clipped: the whole gradient is scaled, which keeps its direction",
                        made: |gradients| {
                            let (_, norm) = day08::clip(gradients, 1.0)?;
                            let [low, high] = [-1.0, 1.0].map(Array::from_f32);
                            let each = gradients
                                .iter()
                                .map(|gradient| mlx_rs::ops::clip(gradient, (&low, &high)));
                            clipped(Ok((each.collect::<mlx_rs::error::Result<_>>()?, norm)))
                        },
                    },
                    Mistake {
                        hint: "the root is missing: the norm is the root of the sum of squares",
                        made: |gradients| {
                            let squares = day08::clip(gradients, 1.0)?.1.square()?;
                            let ratio = Array::from_f32(1.0).divide(squares.add(Array::from_f32(1e-6))?)?;
                            let factor = mlx_rs::ops::minimum(ratio, Array::from_f32(1.0))?;
                            let scaled = gradients.iter().map(|gradient| gradient.multiply(&factor));
                            clipped(Ok((scaled.collect::<mlx_rs::error::Result<_>>()?, squares)))
                        },
                    },
                ],
            ),
            Exercise::new::<Batch>(
                "train_step",
                Batch::draw,
                |batch| eager(batch, day08::train_step, &HYPERPARAMETERS),
                move |batch| eager(batch, self.train_step, &HYPERPARAMETERS),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the gradients are not clipped",
                        made: |batch| {
                            let unbounded = Hyperparameters {
                                grad_clip: 1e9,
                                ..HYPERPARAMETERS
                            };
                            eager(batch, day08::train_step, &unbounded)
                        },
                    },
                    Mistake {
                        hint: "the moments are not kept: the new m and v go into the new state",
                        made: |batch| {
                            eager(
                                batch,
                                |state, batch, numbers, shape, with| {
                                    let (loss, norm, [weights, ..]) =
                                        day08::train_step(state, batch, numbers, shape, with)?;
                                    Ok((loss, norm, [weights, state[1].clone(), state[2].clone()]))
                                },
                                &HYPERPARAMETERS,
                            )
                        },
                    },
                    Mistake {
                        hint: "the norm is that after clipping: give the one before",
                        made: |batch| {
                            eager(
                                batch,
                                |state, batch, numbers, shape, with| {
                                    let (loss, norm, next) = day08::train_step(state, batch, numbers, shape, with)?;
                                    Ok((loss, mlx_rs::ops::minimum(norm, Array::from_f32(with.grad_clip))?, next))
                                },
                                &HYPERPARAMETERS,
                            )
                        },
                    },
                ],
            ),
            Exercise::new::<Batch>(
                "compiled_step",
                Batch::draw,
                |batch| eager(batch, day08::train_step, &HYPERPARAMETERS),
                move |batch| compiled(batch, self.compiled_step),
                TOLERANCE,
                vec![Mistake {
                    hint: "step or rate are constants of the compiled function: put them into the list of inputs",
                    made: |batch| {
                        let mut step = day08::compiled_step(names(batch), batch.shape, HYPERPARAMETERS);
                        batch.trained(|state, _, _| step(state, [&batch.ids, &batch.targets], 1, 0.1))
                    },
                }],
            )
            .compiles(),
            Exercise::new::<[usize; 2]>(
                "bits_per_byte",
                |draw| Ok([draw.size(100, 200) as usize, draw.size(300, 400) as usize]),
                |&[tokens, bytes]| Ok(Value::list([day08::bits_per_byte(1.5, tokens, bytes)])),
                move |&[tokens, bytes]| Ok(Value::list([(self.bits_per_byte)(1.5, tokens, bytes)])),
                1e-9,
                vec![
                    Mistake {
                        hint: "these are nats per byte: divide by ln 2",
                        made: |&[tokens, bytes]| Ok(Value::list([1.5 * tokens as f64 / bytes as f64])),
                    },
                    Mistake {
                        hint: "tokens and bytes are swapped: the loss of all tokens, divided by the bytes",
                        made: |&[tokens, bytes]| Ok(Value::list([day08::bits_per_byte(1.5, bytes, tokens)])),
                    },
                    Mistake {
                        hint: "these are bits per token: the whole text's, over its bytes",
                        made: |_| Ok(Value::list([day08::bits_per_byte(1.5, 1, 1)])),
                    },
                ],
            ),
        ]
    }
}

fn names(batch: &Batch) -> Vec<String> {
    batch.weights.keys().cloned().collect()
}

fn differentiated(
    batch: &Batch,
    function: fn(&Weights, &Array, &Array, &Shape) -> mlx_rs::error::Result<(Array, Vec<Array>)>,
) -> Result<Value> {
    let (loss, gradients) = function(&batch.weights, &batch.ids, &batch.targets, &batch.shape)?;
    Value::numbers([&loss].into_iter().chain(&gradients))
}

fn eager(
    batch: &Batch,
    step: fn(&TrainState, [&Array; 2], [&Array; 2], &Shape, &Hyperparameters) -> StepResult,
    with: &Hyperparameters,
) -> Result<Value> {
    batch.trained(|state, number, lr| {
        let numbers = [Array::from_f32(number as f32), Array::from_f32(lr)];
        step(
            &state,
            [&batch.ids, &batch.targets],
            [&numbers[0], &numbers[1]],
            &batch.shape,
            with,
        )
    })
}

fn compiled(batch: &Batch, function: fn(Vec<String>, Shape, Hyperparameters) -> Step) -> Result<Value> {
    let mut step = function(names(batch), batch.shape, HYPERPARAMETERS);
    batch.trained(|state, number, lr| step(state, [&batch.ids, &batch.targets], number, lr))
}

fn rates(steps: u64, rate: impl Fn(u64) -> f32) -> Result<Value> {
    Ok(Value::list((0..steps + 5).map(rate)))
}

fn clipped(result: mlx_rs::error::Result<(Vec<Array>, Array)>) -> Result<Value> {
    let (gradients, norm) = result?;
    Value::numbers(gradients.iter().chain([&norm]))
}

//! Day 7: GPT-2.

use anyhow::{Result, ensure};
use mlx_gpt::course::day03::{Weights, embed};
use mlx_gpt::course::day06::{block, layer_norm};
use mlx_gpt::course::day07::{self, Shape};
use mlx_gpt::lessons::pytorch::{LOGITS_ROWS, PyTorch};
use mlx_rs::Array;

use super::exercise::{Draw, Exercise, Mistake};
use super::input::{Input, fields};
use super::value::{Value, value};

/// The learner's functions of day 7.
#[derive(Clone, Copy)]
pub struct Day07 {
    pub gpt: fn(&Array, &Weights, &Shape) -> mlx_rs::error::Result<Array>,
    pub logits: fn(&Array, &Weights) -> mlx_rs::error::Result<Array>,
    pub initialize: fn(&Shape, &Array) -> mlx_rs::error::Result<Weights>,
    pub parameter_count: fn(&Shape) -> i64,
}

/// Some hundred operations on numbers around 1 in float32.
const TOLERANCE: f64 = 1e-4;

/// A small GPT-2, with weights that are larger than a new model's, so that every part of it counts.
pub fn small(draw: &mut Draw) -> Result<(Shape, Weights)> {
    let shape = Shape {
        vocab_size: draw.size(7, 11),
        context: 8,
        layers: 2,
        heads: 2,
        embd: 8,
    };
    let mut weights = Weights::new();
    for (name, axes) in day07::array_shapes(&shape) {
        let scale = if axes.len() == 2 { 0.3 } else { 1.0 };
        weights.insert(name, draw.normal(&axes)?.multiply(Array::from_f32(scale))?);
    }
    Ok((shape, weights))
}

/// A small GPT-2 and ids for it, `[B, T]`; and PyTorch's logits, if it is the one that PyTorch computed.
struct Network {
    shape: Shape,
    weights: Weights,
    ids: Array,
    pytorch: Option<Array>,
}

impl Input for Network {
    fn describe(&self) -> String {
        fields([("ids", &self.ids), ("shape", &self.shape), ("weights", &self.weights)])
    }
}

impl Network {
    fn draw(draw: &mut Draw) -> Result<Self> {
        if draw.in_turn(&[false, true]) {
            return Self::of_pytorch();
        }
        let (shape, weights) = small(draw)?;
        Ok(Self {
            ids: draw.ids(&[2, 6], shape.vocab_size),
            shape,
            weights,
            pytorch: None,
        })
    }

    /// The network whose logits `scripts/fixtures.py` had transformers compute.
    fn of_pytorch() -> Result<Self> {
        let fixture = PyTorch::read()?;
        let context = fixture.batch.context();
        let ids = &fixture.batch.inputs[..LOGITS_ROWS * context];
        Ok(Self {
            shape: Shape::from(&fixture.model),
            weights: Weights::from(&fixture.parameters),
            ids: Array::from_slice(ids, &[LOGITS_ROWS as i32, context as i32]),
            pytorch: Some(fixture.answer("logits")?),
        })
    }

    fn expected(&self) -> Result<Value> {
        match &self.pytorch {
            Some(logits) => Value::array(logits),
            None => value(day07::gpt(&self.ids, &self.weights, &self.shape)),
        }
    }
}

impl Day07 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<Network>(
                "gpt",
                Network::draw,
                Network::expected,
                move |network| value((self.gpt)(&network.ids, &network.weights, &network.shape)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "every layer is the first block, `h.0`: use the layer's number",
                        made: |network| {
                            let Network {
                                weights, ids, shape, ..
                            } = network;
                            let mut x = embed(ids, weights, 0)?;
                            for _ in 0..shape.layers {
                                x = block(&x, weights, "h.0", shape.heads)?;
                            }
                            value(day07::logits(&x, weights))
                        },
                    },
                    Mistake {
                        hint: "the blocks are missing, or their results are not used",
                        made: |Network { weights, ids, .. }| value(day07::logits(&embed(ids, weights, 0)?, weights)),
                    },
                    Mistake {
                        hint: "only one block is run: there are `shape.layers`",
                        made: |network| {
                            let Network {
                                weights, ids, shape, ..
                            } = network;
                            let x = block(&embed(ids, weights, 0)?, weights, "h.0", shape.heads)?;
                            value(day07::logits(&x, weights))
                        },
                    },
                ],
            ),
            Exercise::new::<(Array, Weights)>(
                "logits",
                |draw| {
                    let (shape, weights) = small(draw)?;
                    Ok((draw.normal(&[2, 5, shape.embd])?, weights))
                },
                |(x, weights)| value(day07::logits(x, weights)),
                move |(x, weights)| value((self.logits)(x, weights)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the last norm, `ln_f`, is missing",
                        made: |(x, weights)| value(x.matmul(weights["wte.weight"].transpose()?)),
                    },
                    Mistake {
                        hint: "the tied head is forgotten: this is the norm alone; multiply it by `wte.weight`, transposed",
                        made: |(x, weights)| value(layer_norm(x, weights, "ln_f")),
                    },
                ],
            ),
            Exercise::new::<(Shape, Array)>(
                "initialize",
                |draw| {
                    let shape = Shape {
                        vocab_size: 128,
                        context: 64,
                        layers: draw.size(2, 4),
                        heads: 4,
                        embd: 64,
                    };
                    Ok((shape, draw.key()?))
                },
                |(shape, key)| spreads(shape, &day07::initialize(shape, key)?),
                move |(shape, key)| spreads(shape, &(self.initialize)(shape, key)?),
                0.06, // the standard deviation of 4096 numbers is known to one percent
                vec![
                    Mistake {
                        hint: "the projections into the stream, `c_proj.weight`, are not scaled down by √(2 · layers)",
                        made: |(shape, key)| {
                            let root = Array::from_f32((2.0 * shape.layers as f32).sqrt());
                            spreads(
                                shape,
                                &changed(shape, key, "c_proj.weight", |array| array.multiply(&root))?,
                            )
                        },
                    },
                    Mistake {
                        hint: "the gains of the norms are 0: they begin at 1",
                        made: |(shape, key)| {
                            let zero = Array::from_f32(0.0);
                            let mut weights = day07::initialize(shape, key)?;
                            for (name, array) in &mut weights {
                                if array.ndim() == 1 && name.ends_with("weight") {
                                    *array = array.multiply(&zero)?;
                                }
                            }
                            spreads(shape, &weights)
                        },
                    },
                    Mistake {
                        hint: "the biases are 1: they begin at 0",
                        made: |(shape, key)| {
                            let one = Array::from_f32(1.0);
                            spreads(shape, &changed(shape, key, "bias", |array| array.add(&one))?)
                        },
                    },
                    Mistake {
                        hint: "all matrices have the same random numbers: take a new key for each",
                        made: |(shape, key)| {
                            let (mut weights, mut drawn) = (day07::initialize(shape, key)?, Weights::new());
                            for (name, array) in &mut weights {
                                let entry = drawn.entry(format!("{:?}", array.shape()));
                                let first = entry.or_insert_with(|| array.clone());
                                let residual = name.ends_with("c_proj.weight");
                                if array.ndim() == 2 && !residual {
                                    *array = first.clone();
                                }
                            }
                            spreads(shape, &weights)
                        },
                    },
                ],
            ),
            Exercise::new::<Shape>(
                "parameter_count",
                |draw| {
                    let heads = draw.size(2, 12);
                    Ok(Shape {
                        vocab_size: draw.size(50, 50_000),
                        context: 64 * draw.size(1, 16),
                        layers: draw.size(2, 48),
                        heads,
                        embd: 64 * heads,
                    })
                },
                |shape| Ok(number(day07::parameter_count(shape))),
                move |shape| Ok(number((self.parameter_count)(shape))),
                0.0,
                vec![
                    Mistake {
                        hint: "the head is counted: it is tied to `wte`, and has no parameters of its own",
                        made: |shape| {
                            let head = i64::from(shape.vocab_size) * i64::from(shape.embd);
                            Ok(number(day07::parameter_count(shape) + head))
                        },
                    },
                    Mistake {
                        hint: "the last norm, `ln_f`, is missing",
                        made: |shape| Ok(number(day07::parameter_count(shape) - 2 * i64::from(shape.embd))),
                    },
                    Mistake {
                        hint: "the biases are missing: 3C and C in attention, 4C and C in the MLP, C in each norm",
                        made: |shape| {
                            let [l, c] = [shape.layers, shape.embd].map(i64::from);
                            Ok(number(day07::parameter_count(shape) - l * 11 * c - c))
                        },
                    },
                ],
            ),
        ]
    }
}

fn number(count: i64) -> Value {
    Value::list([count as f64])
}

/// New weights, those whose names have that end changed.
fn changed(
    shape: &Shape,
    key: &Array,
    end: &str,
    change: impl Fn(&Array) -> mlx_rs::error::Result<Array>,
) -> Result<Weights> {
    let mut weights = day07::initialize(shape, key)?;
    for (name, array) in &mut weights {
        if name.ends_with(end) {
            *array = change(array)?;
        }
    }
    Ok(weights)
}

/// Of each array the standard deviation, in units of 0.02, and the mean; and whether matrices of one shape are equal.
fn spreads(shape: &Shape, weights: &Weights) -> Result<Value> {
    let mut numbers = Vec::new();
    let mut matrices: Vec<&Array> = Vec::new();
    let mut equal = 0.0;
    let expected = day07::array_shapes(shape);
    for (name, axes) in &expected {
        let array = weights.get(name);
        let Some(array) = array else {
            anyhow::bail!("there is no array {name}");
        };
        ensure!(
            array.shape() == &axes[..],
            "{name} has the shape {:?}, not {axes:?}",
            array.shape()
        );
        let deviation: f32 = array.var(None, None)?.sqrt()?.try_item_exact()?;
        let mean: f32 = array.mean(None)?.try_item_exact()?;
        numbers.extend([f64::from(deviation / 0.02), f64::from(mean)]);
        if array.ndim() == 2 {
            for other in matrices.iter().filter(|other| other.shape() == array.shape()) {
                if other.eq_values(array)? {
                    equal = 1.0;
                }
            }
            matrices.push(array);
        }
    }
    ensure!(
        weights.len() == expected.len(),
        "there are {} arrays, not {}",
        weights.len(),
        expected.len()
    );
    numbers.push(equal);
    Ok(Value::list(numbers))
}

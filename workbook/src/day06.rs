//! Day 6: the block.

use anyhow::Result;
use mlx_gpt::course::day03::Weights;
use mlx_gpt::course::day04::linear;
use mlx_gpt::course::day05::multi_head_attention;
use mlx_gpt::course::day06;
use mlx_rs::{Array, ops};

use super::day04::{head, layer};
use super::exercise::{Draw, Exercise, Mistake};
use super::value::{Value, value};

/// The learner's functions of day 6.
#[derive(Clone, Copy)]
pub struct Day06 {
    pub gelu: fn(&Array) -> mlx_rs::error::Result<Array>,
    pub mlp: fn(&Array, &Weights, &str) -> mlx_rs::error::Result<Array>,
    pub block: fn(&Array, &Weights, &str, i32) -> mlx_rs::error::Result<Array>,
    pub normalize: fn(&Array, i32) -> mlx_rs::error::Result<Array>,
    pub layer_norm: fn(&Array, &Weights, &str) -> mlx_rs::error::Result<Array>,
    pub dropout: fn(&Array, f32, &Array) -> mlx_rs::error::Result<Array>,
}

const HEADS: i32 = 4;
/// Some ten operations on numbers around 1 in float32.
const TOLERANCE: f64 = 3e-5;

impl Day06 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<Array>(
                "gelu",
                |draw| Ok(draw.normal(&[3, 8])?.multiply(Array::from_f32(2.0))?),
                |x| value(day06::gelu(x)),
                move |x| value((self.gelu)(x)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "this is ReLU: GPT-2 has GELU",
                        made: |x| value(ops::maximum(x, Array::from_f32(0.0))),
                    },
                    Mistake {
                        hint: "this is SiLU, x · sigmoid(x): GPT-2 has GELU",
                        made: |x| value(x.multiply(ops::sigmoid(x)?)),
                    },
                    Mistake {
                        hint: "the half is missing",
                        made: |x| value(day06::gelu(x)?.multiply(Array::from_f32(2.0))),
                    },
                    Mistake {
                        hint: "the cube is missing: 0.044715 is multiplied by x³",
                        made: |x| {
                            let inner = x.multiply(Array::from_f32((2.0 / std::f32::consts::PI).sqrt()))?;
                            let tanh = ops::tanh(inner)?.add(Array::from_f32(1.0))?;
                            value(x.multiply(Array::from_f32(0.5))?.multiply(tanh))
                        },
                    },
                ],
            ),
            Exercise::new::<(Array, Weights)>(
                "mlp",
                |draw| {
                    let mut weights = layer(draw, "mlp.c_fc", 4, 16)?;
                    weights.extend(layer(draw, "mlp.c_proj", 16, 4)?);
                    Ok((draw.normal(&[2, 3, 4])?, weights))
                },
                |(x, weights)| value(day06::mlp(x, weights, "mlp")),
                move |(x, weights)| value((self.mlp)(x, weights, "mlp")),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "GELU is missing between the two layers: without it they are one",
                        made: |(x, weights)| value(linear(&linear(x, weights, "mlp.c_fc")?, weights, "mlp.c_proj")),
                    },
                    Mistake {
                        hint: "GELU is applied to the result as well: only between the layers",
                        made: |(x, weights)| value(day06::gelu(&day06::mlp(x, weights, "mlp")?)),
                    },
                ],
            ),
            Exercise::new::<(Array, Weights)>(
                "block",
                |draw| {
                    let (x, weights) = block_weights(draw)?;
                    Ok((x, weights))
                },
                |(x, weights)| value(day06::block(x, weights, "h.0", HEADS)),
                move |(x, weights)| value((self.block)(x, weights, "h.0", HEADS)),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the residual connections are missing: x is added to what each layer gives",
                        made: |(x, weights)| {
                            let attended = attention(&norm(x, weights, 1)?, weights)?;
                            value(day06::mlp(&norm(&attended, weights, 2)?, weights, "h.0.mlp"))
                        },
                    },
                    Mistake {
                        hint: "the second residual connection starts from the block's input: it is from the sum after attention",
                        made: |(x, weights)| {
                            let sum = x.add(attention(&norm(x, weights, 1)?, weights)?)?;
                            value(x.add(day06::mlp(&norm(&sum, weights, 2)?, weights, "h.0.mlp")?))
                        },
                    },
                    Mistake {
                        hint: "the norms come after the sums, as in the first transformer: GPT-2 norms what goes into a layer",
                        made: |(x, weights)| {
                            let x = norm(&x.add(attention(x, weights)?)?, weights, 1)?;
                            value(norm(&x.add(day06::mlp(&x, weights, "h.0.mlp")?)?, weights, 2))
                        },
                    },
                    Mistake {
                        hint: "the norms are missing",
                        made: |(x, weights)| {
                            let x = x.add(attention(x, weights)?)?;
                            value(x.add(day06::mlp(&x, weights, "h.0.mlp")?))
                        },
                    },
                    Mistake {
                        hint: "attention and MLP have changed places: attention comes first",
                        made: |(x, weights)| {
                            let x = x.add(day06::mlp(&norm(x, weights, 2)?, weights, "h.0.mlp")?)?;
                            value(x.add(attention(&norm(&x, weights, 1)?, weights)?))
                        },
                    },
                ],
            ),
            Exercise::new::<Array>(
                "normalize",
                |draw| {
                    Ok(draw
                        .normal(&[4, 4])?
                        .multiply(Array::from_f32(2.0))?
                        .add(Array::from_f32(1.0))?)
                },
                |x| value(day06::normalize(x, -1)),
                move |x| value((self.normalize)(x, -1)),
                TOLERANCE,
                mistakes_of_norms(),
            ),
            Exercise::new::<(Array, Weights)>(
                "layer_norm",
                |draw| {
                    let x = draw.normal(&[2, 3, 6])?.multiply(Array::from_f32(2.0))?;
                    let weights = [("ln.weight", draw.normal(&[6])?), ("ln.bias", draw.normal(&[6])?)];
                    Ok((x, weights.map(|(name, array)| (name.to_owned(), array)).into()))
                },
                |(x, weights)| value(day06::layer_norm(x, weights, "ln")),
                move |(x, weights)| value((self.layer_norm)(x, weights, "ln")),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "gain and bias are missing",
                        made: |(x, _)| value(day06::normalize(x, -1)),
                    },
                    Mistake {
                        hint: "the bias is missing",
                        made: |(x, weights)| value(day06::normalize(x, -1)?.multiply(&weights["ln.weight"])),
                    },
                    Mistake {
                        hint: "gain and bias have changed places: multiply by `.weight`, add `.bias`",
                        made: |(x, weights)| {
                            let scaled = day06::normalize(x, -1)?.multiply(&weights["ln.bias"])?;
                            value(scaled.add(&weights["ln.weight"]))
                        },
                    },
                    Mistake {
                        hint: "each channel is normalised over the batch, which is batch norm: layer norm is over the channels, the last axis",
                        made: |(x, weights)| {
                            let scaled = day06::normalize(x, 0)?.multiply(&weights["ln.weight"])?;
                            value(scaled.add(&weights["ln.bias"]))
                        },
                    },
                ],
            ),
            Exercise::new::<(Array, f32, Array)>(
                "dropout",
                |draw| {
                    let rate = 0.1 * draw.size(1, 4) as f32;
                    Ok((draw.normal(&[128, 128])?, rate, draw.key()?))
                },
                |(x, rate, key)| dropped(x, *rate, &day06::dropout(x, *rate, key)?),
                move |(x, rate, key)| dropped(x, *rate, &(self.dropout)(x, *rate, key)?),
                0.03, // the share of zeros among 16,384 numbers
                vec![
                    Mistake {
                        hint: "the numbers that are kept are not scaled: divide them by 1 − rate, so that the mean stays",
                        made: |(x, rate, key)| {
                            let kept = day06::dropout(x, *rate, key)?.multiply(Array::from_f32(1.0 - rate))?;
                            dropped(x, *rate, &kept)
                        },
                    },
                    Mistake {
                        hint: "rate and 1 − rate have changed places: `rate` is the share that becomes 0",
                        made: |(x, rate, key)| dropped(x, *rate, &day06::dropout(x, 1.0 - rate, key)?),
                    },
                    Mistake {
                        hint: "nothing becomes 0",
                        made: |(x, rate, _)| dropped(x, *rate, x),
                    },
                ],
            ),
        ]
    }
}

fn mistakes_of_norms() -> Vec<Mistake<Array>> {
    vec![
        Mistake {
            hint: "the other axis is normalised: use `axis`, and keep it (`true`), so that mean and variance fit x",
            made: |x| value(day06::normalize(x, 0)),
        },
        Mistake {
            hint: "the mean is not subtracted",
            made: |x| value(x.divide(deviation(x, 0, 1e-5)?)),
        },
        Mistake {
            hint: "it is divided by the variance: take its root",
            made: |x| {
                let variance = deviation(x, 0, 1e-5)?.square()?;
                value(x.subtract(x.mean_axis(-1, true)?)?.divide(variance))
            },
        },
        Mistake {
            hint: "the variance divides by n − 1: here it is the mean of the squares, by n",
            made: |x| value(x.subtract(x.mean_axis(-1, true)?)?.divide(deviation(x, 1, 1e-5)?)),
        },
    ]
}

/// √(variance + ε) over the last axis, whose sum of squares is divided by n less `freedom`.
fn deviation(x: &Array, freedom: i32, epsilon: f32) -> mlx_rs::error::Result<Array> {
    x.var_axis(-1, true, Some(freedom))?
        .add(Array::from_f32(epsilon))?
        .sqrt()
}

/// Vectors and the weights of a block `h.0`.
fn block_weights(draw: &mut Draw) -> Result<(Array, Weights)> {
    let (x, attention) = head(draw)?;
    let channels = x.dim(2);
    let mut weights: Weights = attention
        .into_iter()
        .map(|(name, array)| (format!("h.0.{name}"), array))
        .collect();
    weights.extend(layer(draw, "h.0.mlp.c_fc", channels, 4 * channels)?);
    weights.extend(layer(draw, "h.0.mlp.c_proj", 4 * channels, channels)?);
    for part in ["ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"] {
        weights.insert(format!("h.0.{part}"), draw.normal(&[channels])?);
    }
    Ok((x, weights))
}

fn norm(x: &Array, weights: &Weights, number: i32) -> mlx_rs::error::Result<Array> {
    day06::layer_norm(x, weights, &format!("h.0.ln_{number}"))
}

fn attention(x: &Array, weights: &Weights) -> mlx_rs::error::Result<Array> {
    multi_head_attention(x, weights, "h.0.attn", HEADS)
}

/// The share of zeros beside `rate`, and the largest error of the others, which are x divided by 1 − rate.
fn dropped(x: &Array, rate: f32, found: &Array) -> Result<Value> {
    let is_zero = ops::eq(found, Array::from_f32(0.0))?;
    let zeros: f32 = is_zero.as_dtype(mlx_rs::Dtype::Float32)?.mean(None)?.try_item_exact()?;
    let error = found.multiply(Array::from_f32(1.0 - rate))?.subtract(x)?.abs()?;
    let error = ops::select(&is_zero, Array::from_f32(0.0), error)?;
    let largest: f32 = error.max(None)?.try_item_exact()?;
    Ok(Value::list([f64::from(zeros - rate), f64::from(largest)]))
}

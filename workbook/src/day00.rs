//! Day 0: gradients, by the chain rule and by hand.

use anyhow::Result;
use mlx_gpt::course::day00::{self, Graph, Inputs};
use mlx_rs::{Array, ops};

use super::exercise::{Draw, Exercise, Mistake};
use super::input::{Input, fields};
use super::value::Value;

/// The learner's functions of day 0.
#[derive(Clone, Copy)]
pub struct Day00 {
    pub backward: fn(&[Inputs]) -> Vec<f64>,
    pub two_layer_gradients: fn(&Array, &Array, [&Array; 4]) -> mlx_rs::error::Result<[Array; 4]>,
}

/// Products of a few numbers around 1 in float32.
const TOLERANCE: f64 = 1e-5;

/// A net of two layers, with examples.
struct Net {
    x: Array,
    target: Array,
    parameters: [Array; 4],
}

impl Net {
    fn draw(draw: &mut Draw) -> Result<Self> {
        let [b, i, h, o] = [draw.size(3, 6), draw.size(2, 4), draw.size(3, 5), draw.size(2, 3)];
        Ok(Self {
            x: draw.normal(&[b, i])?,
            target: draw.normal(&[b, o])?,
            parameters: [
                draw.normal(&[i, h])?,
                draw.normal(&[h])?,
                draw.normal(&[h, o])?,
                draw.normal(&[o])?,
            ],
        })
    }

    fn all(&self) -> [&Array; 4] {
        let [w1, b1, w2, b2] = &self.parameters;
        [w1, b1, w2, b2]
    }

    fn gradients(&self) -> Result<[Array; 4]> {
        Ok(day00::two_layer_gradients(&self.x, &self.target, self.all())?)
    }
}

impl Input for Net {
    fn describe(&self) -> String {
        fields([
            ("x", &self.x),
            ("target", &self.target),
            ("W₁, b₁, W₂ and b₂", &self.parameters),
        ])
    }
}

impl Day00 {
    /// Its exercises.
    pub fn exercises(self) -> Vec<Exercise> {
        vec![
            Exercise::new::<Vec<Inputs>>(
                "backward",
                graph,
                |inputs| Ok(Value::list(day00::backward(inputs))),
                move |inputs| Ok(Value::list((self.backward)(inputs))),
                1e-9,
                vec![
                    Mistake {
                        hint: "only one path counts: add up what comes along all paths",
                        made: |inputs| Ok(Value::list(walk(inputs, (0..inputs.len()).rev(), |_, new| new))),
                    },
                    Mistake {
                        hint: "the graph is walked from its beginning: go backwards from the last number",
                        made: |inputs| Ok(Value::list(walk(inputs, 0..inputs.len(), |old, new| old + new))),
                    },
                ],
            ),
            Exercise::new::<Net>(
                "two_layer_gradients",
                Net::draw,
                |net| Value::numbers(&net.gradients()?),
                move |net| Value::numbers(&(self.two_layer_gradients)(&net.x, &net.target, net.all())?),
                TOLERANCE,
                vec![
                    Mistake {
                        hint: "the slope of the tanh is missing: 1 − hidden²",
                        made: |net| {
                            let [_, _, by_w2, by_b2] = net.gradients()?;
                            let by_hidden = by_y(net)?.matmul(net.parameters[2].transpose()?)?;
                            let by_w1 = net.x.transpose()?.matmul(&by_hidden)?;
                            Value::numbers(&[by_w1, by_hidden.sum_axis(0, false)?, by_w2, by_b2])
                        },
                    },
                    Mistake {
                        hint: "the loss is a mean: divide by the number of outputs, of all rows and columns",
                        made: |net| scaled(net, net.target.size() as f32),
                    },
                    Mistake {
                        hint: "the derivative of a square has a factor of 2",
                        made: |net| scaled(net, 0.5),
                    },
                    Mistake {
                        hint: "the loss is a mean over rows and columns: you divide by the number of rows alone",
                        made: |net| scaled(net, net.target.dim(1) as f32),
                    },
                ],
            ),
        ]
    }
}

/// A random graph, in which numbers are used more than once.
fn graph(draw: &mut Draw) -> Result<Vec<Inputs>> {
    let mut graph = Graph::default();
    for _ in 0..3 {
        let value = f64::from(draw.size(-9, 9)) / 5.0 + 0.1;
        graph.push(value, vec![]);
    }
    for at in 3..9 {
        let (a, b) = (at - 1, draw.size(0, at as i32 - 1) as usize);
        match draw.size(0, 2) {
            0 => graph.add(a, b),
            1 => graph.multiply(a, b),
            _ => graph.tanh(b),
        };
    }
    let last = graph.values.len() - 1;
    graph.multiply(last, last);
    Ok(graph.inputs)
}

/// `backward` in another order, or with something else than a sum.
fn walk(inputs: &[Inputs], order: impl Iterator<Item = usize>, add: fn(f64, f64) -> f64) -> Vec<f64> {
    let mut derivatives = vec![0.0; inputs.len()];
    derivatives[inputs.len() - 1] = 1.0;
    for at in order {
        for &(input, by_input) in &inputs[at] {
            derivatives[input] = add(derivatives[input], derivatives[at] * by_input);
        }
    }
    derivatives
}

/// The gradient for the net's output.
fn by_y(net: &Net) -> Result<Array> {
    let [w1, b1, w2, b2] = net.all();
    let y = ops::tanh(net.x.matmul(w1)?.add(b1)?)?.matmul(w2)?.add(b2)?;
    Ok(y.subtract(&net.target)?
        .multiply(Array::from_f32(2.0 / y.size() as f32))?)
}

/// All gradients times a number.
fn scaled(net: &Net, factor: f32) -> Result<Value> {
    let gradients = net.gradients()?;
    let scaled = gradients
        .iter()
        .map(|gradient| gradient.multiply(Array::from_f32(factor)));
    Value::numbers(&scaled.collect::<mlx_rs::error::Result<Vec<_>>>()?)
}

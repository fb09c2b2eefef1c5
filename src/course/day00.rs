//! Day 0, if you want to see once where gradients come from: the chain rule on single numbers, and by hand on matrices.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops};

/// What a number was computed from: the place of each of its inputs, and the derivative by that input.
pub type Inputs = Vec<(usize, f64)>;

// ANCHOR: graph
/// Numbers, in the order in which they were computed, each with what it was computed from.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub values: Vec<f64>,
    pub inputs: Vec<Inputs>,
}

impl Graph {
    /// A new number; its place is returned.
    pub fn push(&mut self, value: f64, inputs: Inputs) -> usize {
        self.values.push(value);
        self.inputs.push(inputs);
        self.values.len() - 1
    }

    /// a + b: both derivatives are 1.
    pub fn add(&mut self, a: usize, b: usize) -> usize {
        self.push(self.values[a] + self.values[b], vec![(a, 1.0), (b, 1.0)])
    }

    /// a · b: the derivative by each is the other.
    pub fn multiply(&mut self, a: usize, b: usize) -> usize {
        let (x, y) = (self.values[a], self.values[b]);
        self.push(x * y, vec![(a, y), (b, x)])
    }

    /// tanh(a): the derivative is 1 − tanh².
    pub fn tanh(&mut self, a: usize) -> usize {
        let tanh = self.values[a].tanh();
        self.push(tanh, vec![(a, 1.0 - tanh * tanh)])
    }
}
// ANCHOR_END: graph

// ANCHOR: backward
/// The derivative of the last number by each of the numbers, given what each was computed from.
///
/// # Exercise
/// Begin with zeros, and 1 for the last number. Go backwards: each number hands its own derivative, times the derivative by the input,
/// on to each of its inputs, which adds up what it gets.
pub fn backward(inputs: &[Inputs]) -> Vec<f64> {
    let mut derivatives = vec![0.0; inputs.len()];
    let last = inputs.len() - 1;
    derivatives[last] = 1.0;
    for at in (0..inputs.len()).rev() {
        for &(input, by_input) in &inputs[at] {
            derivatives[input] += derivatives[at] * by_input; // the chain rule
        }
    }
    derivatives
}
// ANCHOR_END: backward

// ANCHOR: loss
/// The loss of a net of two layers: x `[B, I]` to y = tanh(x W₁ + b₁) W₂ + b₂ `[B, O]`, and the mean of the squares of y − `target`.
/// W₁ is `[I, H]`, b₁ `[H]`, W₂ `[H, O]`, b₂ `[O]`.
pub fn two_layer_loss(x: &Array, target: &Array, [w1, b1, w2, b2]: [&Array; 4]) -> Result<Array> {
    let hidden = ops::tanh(x.matmul(w1)?.add(b1)?)?; // [B, H]
    let y = hidden.matmul(w2)?.add(b2)?; // [B, O]
    y.subtract(target)?.square()?.mean(None)
}
// ANCHOR_END: loss

// ANCHOR: by_hand
/// The gradients of [`two_layer_loss`] for W₁, b₁, W₂ and b₂, by hand.
///
/// # Exercise
/// Compute `hidden` and `y` as above, then go backwards. The gradient for y is 2 (y − target)/n, for all n numbers of y; for W₂ it is
/// hiddenᵀ times that, for b₂ the sum of its rows: `sum_axis(0, false)`; for `hidden` it is that times W₂ᵀ; through the tanh it gets a
/// factor of 1 − hidden². Then W₁ and b₁ are as W₂ and b₂.
pub fn two_layer_gradients(x: &Array, target: &Array, [w1, b1, w2, b2]: [&Array; 4]) -> Result<[Array; 4]> {
    let hidden = ops::tanh(x.matmul(w1)?.add(b1)?)?; // [B, H]
    let y = hidden.matmul(w2)?.add(b2)?; // [B, O]
    let factor = Array::from_f32(2.0 / y.size() as f32);
    let by_y = y.subtract(target)?.multiply(factor)?; // [B, O]
    let by_hidden = by_y.matmul(w2.transpose()?)?; // [B, H]
    let slope = Array::from_f32(1.0).subtract(hidden.square()?)?; // of the tanh, [B, H]
    let by_sum = by_hidden.multiply(slope)?; // [B, H]
    let [by_w1, by_w2] = [x.transpose()?.matmul(&by_sum)?, hidden.transpose()?.matmul(&by_y)?];
    Ok([by_w1, by_sum.sum_axis(0, false)?, by_w2, by_y.sum_axis(0, false)?])
}
// ANCHOR_END: by_hand

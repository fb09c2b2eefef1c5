//! Inputs of day 8's exercises: a small model in its training, and a parameter.

use anyhow::Result;
use mlx_gpt::course::day03::Weights;
use mlx_gpt::course::day07::Shape;
use mlx_gpt::course::day08::{Hyperparameters, TrainState};
use mlx_rs::Array;

use super::day07::small;
use super::day08::{AdamW, StepResult};
use super::exercise::Draw;
use super::input::{Input, fields};
use super::value::Value;

/// Those of every step here.
pub const HYPERPARAMETERS: Hyperparameters = Hyperparameters {
    beta2: 0.99,
    weight_decay: 0.1,
    grad_clip: 1.0,
};

/// A small model in the middle of its training, and a batch of `[2, 6]`. With moments near zero, as at the beginning, AdamW would
/// make a step of the rounding error of a gradient that is nearly zero.
pub struct Batch {
    pub shape: Shape,
    pub weights: Weights,
    pub moments: [Weights; 2],
    pub ids: Array,
    pub targets: Array,
}

impl Input for Batch {
    fn describe(&self) -> String {
        fields([("ids", &self.ids), ("shape", &self.shape), ("weights", &self.weights)])
    }
}

impl Batch {
    pub fn draw(draw: &mut Draw) -> Result<Self> {
        let (shape, weights) = small(draw)?;
        let mut moments = [Weights::new(), Weights::new()];
        for (name, array) in &weights {
            let m = draw.normal(array.shape())?.multiply(Array::from_f32(0.1))?;
            let v = draw.normal(array.shape())?.square()?.add(Array::from_f32(0.5))?;
            moments[0].insert(name.clone(), m);
            moments[1].insert(name.clone(), v);
        }
        Ok(Self {
            moments,
            ids: draw.ids(&[2, 6], shape.vocab_size),
            targets: draw.ids(&[2, 6], shape.vocab_size),
            shape,
            weights,
        })
    }

    /// The weights and losses after some steps.
    pub fn trained(&self, mut step: impl FnMut(TrainState, u64, f32) -> StepResult) -> Result<Value> {
        let [m, v] = &self.moments;
        let mut state = [self.weights.clone(), m.clone(), v.clone()];
        let mut numbers = Vec::new();
        for number in 1..=3 {
            let (loss, norm, next) = step(state, number, 0.1 * number as f32)?;
            numbers.extend([loss, norm]);
            state = next;
        }
        numbers.extend(state.into_iter().flat_map(Weights::into_values));
        Value::numbers(&numbers)
    }
}

/// A parameter with its gradient and moments after some steps.
pub struct Update {
    pub parameter: Array,
    pub gradient: Array,
    pub moments: [Array; 2],
    pub step: Array,
}

impl Input for Update {
    fn describe(&self) -> String {
        fields([
            ("parameter, gradient and moments", &self.parameter),
            ("step", &self.step),
        ])
    }
}

impl Update {
    pub fn draw(draw: &mut Draw) -> Result<Self> {
        let shape = draw.in_turn::<&[i32]>(&[&[3, 4], &[5]]);
        Ok(Self {
            parameter: draw.normal(shape)?,
            gradient: draw.normal(shape)?,
            moments: [draw.normal(shape)?, draw.normal(shape)?.square()?],
            step: Array::from_f32(draw.size(1, 5) as f32),
        })
    }

    pub fn updated(&self, adamw: AdamW, beta2: f32, weight_decay: f32) -> Result<Value> {
        let moments = [&self.moments[0], &self.moments[1]];
        let lr = Array::from_f32(0.1);
        let arrays = adamw(
            &self.parameter,
            &self.gradient,
            moments,
            &self.step,
            &lr,
            beta2,
            weight_decay,
        )?;
        Value::arrays(&arrays)
    }
}

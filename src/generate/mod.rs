//! Text from a model: one token at a time, each chosen from what the model expects next.

pub mod sampler;

use anyhow::{Result, ensure};
use mlx_rs::ops::indexing::IndexOp;
use mlx_rs::{Array, Dtype};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::config::ModelConfig;
use crate::model::{Gpt, Parameters};
use sampler::{Choice, Sampling};

/// A model ready to continue token sequences.
pub struct Generator {
    gpt: Gpt,
    context: usize,
}

impl Generator {
    pub fn new(model: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Ok(Self {
            gpt: Gpt::new(model, parameters)?,
            context: model.context,
        })
    }

    /// Logits `[V]` of the token after `ids`, of which there must be 1 to the context.
    fn logits(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let ids = Array::from_slice(ids, &[1, ids.len() as i32]);
        let logits = self.gpt.forward(&ids, None)?.index((0, -1)).as_dtype(Dtype::Float32)?;
        Ok(logits.try_as_slice::<f32>()?.to_vec())
    }

    /// Continues `prompt` by `count` tokens, whatever the context: when it is full, its last half is kept and filled
    /// up again. `on_token` hears each token as it is chosen, and ends it early by returning false.
    ///
    /// # Errors
    /// An empty prompt, or an error of MLX's or of `on_token`.
    pub fn generate(
        &self,
        prompt: &[u32],
        count: usize,
        sampling: &Sampling,
        seed: u64,
        sample: u64,
        mut on_token: impl FnMut(Choice) -> Result<bool>,
    ) -> Result<()> {
        ensure!(!prompt.is_empty(), "the prompt is empty; give at least one character");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(sample);
        let mut window = Window::new(prompt, self.context);
        for _ in 0..count {
            let choice = sampling.choose(&self.logits(window.ids())?, &mut rng);
            window.push(choice.id);
            if !on_token(choice)? {
                break;
            }
        }
        Ok(())
    }
}

/// The tokens that the model looks at.
struct Window {
    ids: Vec<u32>,
    context: usize,
}

impl Window {
    fn new(prompt: &[u32], context: usize) -> Self {
        let mut window = Self {
            ids: Vec::with_capacity(context),
            context,
        };
        prompt.iter().for_each(|&id| window.push(id));
        window
    }

    fn ids(&self) -> &[u32] {
        &self.ids
    }

    fn push(&mut self, id: u32) {
        if self.ids.len() == self.context {
            self.ids.drain(..self.context - self.context / 2);
        }
        self.ids.push(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_window_keeps_its_last_half() {
        let mut window = Window::new(&[0, 1, 2, 3, 4, 5], 6);
        assert_eq!(window.ids(), [0, 1, 2, 3, 4, 5]);
        window.push(6);
        assert_eq!(window.ids(), [3, 4, 5, 6]);
        let mut smallest = Window::new(&[7], 1);
        smallest.push(8);
        assert_eq!(smallest.ids(), [8]);
    }
}

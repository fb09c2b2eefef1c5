//! Text from a model: one token at a time, each chosen from what the model expects next.

pub mod sampler;

use anyhow::{Result, ensure};
use mlx_rs::{Array, Dtype};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::config::ModelConfig;
use crate::model::kv_cache::KvCache;
use crate::model::{Gpt, Parameters};
use sampler::{Choice, Sampling};

/// A model ready to continue token sequences.
pub struct Generator {
    gpt: Gpt,
    model: ModelConfig,
}

impl Generator {
    pub fn new(model: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Ok(Self {
            gpt: Gpt::new(model, parameters)?,
            model: model.clone(),
        })
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
        let mut window = Window::new(self.model.context);
        prompt.iter().for_each(|&id| window.push(id));
        let mut cache = KvCache::new(&self.model, 1, Dtype::Float32)?;
        for _ in 0..count {
            let choice = sampling.choose(&self.next_logits(&window, &mut cache)?, &mut rng)?;
            window.push(choice.id);
            if !on_token(choice)? {
                break;
            }
        }
        Ok(())
    }

    /// Logits `[V]` of the token after the window's; only those that are not in the cache yet are computed.
    fn next_logits(&self, window: &Window, cache: &mut KvCache) -> Result<Vec<f32>> {
        if window.restarted(cache.len()) {
            cache.clear();
        }
        let ids = &window.ids[cache.len()..];
        let logits = self
            .gpt
            .forward_cached(&Array::from_slice(ids, &[1, ids.len() as i32]), cache)?; // [1, V]
        Ok(logits.as_dtype(Dtype::Float32)?.to_vec_exact()?)
    }
}

/// The tokens that the model looks at.
struct Window {
    ids: Vec<u32>,
    context: usize,
}

impl Window {
    fn new(context: usize) -> Self {
        Self {
            ids: Vec::with_capacity(context),
            context,
        }
    }

    /// Adds a token; before that, a full window keeps its last half only.
    fn push(&mut self, id: u32) {
        if self.ids.len() == self.context {
            self.ids.drain(..self.context - self.context / 2);
        }
        self.ids.push(id);
    }

    /// Whether the first `cached` tokens that were seen are not the window's any more: it only ever grows or restarts
    /// shorter.
    fn restarted(&self, cached: usize) -> bool {
        self.ids.len() <= cached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_window_keeps_its_last_half() {
        let mut window = Window::new(6);
        (0..6).for_each(|id| window.push(id));
        assert_eq!(window.ids, [0, 1, 2, 3, 4, 5]);
        window.push(6);
        assert_eq!(window.ids, [3, 4, 5, 6]);
        assert!(window.restarted(6));
        let mut smallest = Window::new(1);
        (7..9).for_each(|id| smallest.push(id));
        assert_eq!(smallest.ids, [8]);
        assert!(smallest.restarted(1));
    }
}

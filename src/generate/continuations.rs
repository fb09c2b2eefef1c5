//! Continuations of many prompts, in batches: the most likely ones, or sampled ones.

use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;

use super::sampler::{SampledToken, Sampling};
use super::{BATCH_BYTES, DecodeBatch, Generator, sample_rng};
use crate::compute::memory;

/// Largest batch of prompts: nobody waits for a single one, as for a streamed sample.
const MAX_PROMPTS: usize = 256;

impl Generator {
    /// The most likely continuation of each prompt: the tokens before the first of `ends`, or as many as fit into the context.
    /// `progress` is called with the number of finished prompts.
    ///
    /// # Errors
    /// A prompt that is empty or longer than the context, logits that are not numbers, or an error of MLX's.
    pub fn greedy(&self, prompts: &[Vec<u32>], ends: &[u32], progress: impl FnMut(usize)) -> Result<Vec<Vec<u32>>> {
        let mut rngs = vec![sample_rng(0, 0); prompts.len()]; // greedy sampling draws nothing
        let all = self.continuations(prompts, ends, &Sampling::GREEDY, &mut rngs, progress)?;
        let before_end = |tokens: Vec<SampledToken>| {
            tokens
                .iter()
                .map(|token| token.id)
                .filter(|id| !ends.contains(id))
                .collect()
        };
        Ok(all.into_iter().map(before_end).collect())
    }

    /// A continuation of each prompt, sampled with the random numbers in its place of `rngs`: the tokens up to and with the first
    /// of `ends`, or as many as fit into the context. Prompts of one length are computed in batches, with their key-value cache.
    ///
    /// # Errors
    /// As [`greedy`](Self::greedy).
    pub fn continuations(
        &self,
        prompts: &[Vec<u32>],
        ends: &[u32],
        sampling: &Sampling,
        rngs: &mut [ChaCha8Rng],
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Vec<SampledToken>>> {
        let context = self.config.context;
        let fits = |prompt: &Vec<u32>| (1..=context).contains(&prompt.len());
        ensure!(
            prompts.iter().all(fits),
            "a prompt is empty or longer than the model's context, {context}; give others"
        );
        let row = memory::kv_cache_bytes(&self.config) as usize + self.config.vocab_size * size_of::<f32>();
        let batch_size = (BATCH_BYTES / row).clamp(1, MAX_PROMPTS);
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|&prompt| prompts[prompt].len());
        let mut answers = vec![Vec::new(); prompts.len()];
        for same_length in order.chunk_by(|&a, &b| prompts[a].len() == prompts[b].len()) {
            for batch in same_length.chunks(batch_size) {
                self.continue_batch(prompts, batch, ends, sampling, rngs, &mut answers)?;
                progress(batch.len());
            }
        }
        Ok(answers)
    }

    /// The continuations of the prompts with the indices `batch`, which have one length.
    fn continue_batch(
        &self,
        prompts: &[Vec<u32>],
        batch: &[usize],
        ends: &[u32],
        sampling: &Sampling,
        rngs: &mut [ChaCha8Rng],
        answers: &mut [Vec<SampledToken>],
    ) -> Result<()> {
        let length = prompts[batch[0]].len();
        let mut sequences = DecodeBatch::new(&self.model, &self.config, batch.len())?;
        let column = |position: usize| -> Vec<u32> { batch.iter().map(|&prompt| prompts[prompt][position]).collect() };
        (0..length).for_each(|position| sequences.push(&column(position)));
        let mut rows = batch.to_vec(); // prompts of the rows that are computed
        let mut finished = vec![false; prompts.len()];
        for inputs in length..=self.config.context {
            let logits = sequences.next_logits()?;
            let mut ids = Vec::with_capacity(rows.len());
            for (row, logits) in logits.chunks(self.config.vocab_size).enumerate() {
                let prompt = rows[row];
                let choice = self.sample(sampling, logits, sequences.window(row), &mut rngs[prompt])?;
                ids.push(choice.id);
                if !finished[prompt] {
                    answers[prompt].push(choice);
                }
                finished[prompt] |= ends.contains(&choice.id);
            }
            let active: Vec<usize> = (0..rows.len()).filter(|&row| !finished[rows[row]]).collect();
            if active.is_empty() || inputs == self.config.context {
                break;
            }
            sequences.push(&ids);
            // Moving rows costs about as much as a step: it pays when half of them are finished.
            if 2 * active.len() <= rows.len() {
                sequences.select_rows(&active)?;
                rows = active.iter().map(|&row| rows[row]).collect();
            }
        }
        Ok(())
    }
}

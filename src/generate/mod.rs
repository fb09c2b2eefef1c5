//! Autoregressive text generation.
//!
//! | file | contents |
//! |---|---|
//! | `sampler.rs` | from logits to one token; arithmetic |
//! | `window.rs`, `decode_batch.rs` | the tokens that the model looks at; rows of them with their key-value cache |
//! | `continuations.rs` | continuations of many prompts, the likeliest or sampled ones |
//! | `bos_eos.rs` | bos and eos tokens |
//! | `stop.rs`, `completion.rs` | text up to a stop string; tokens to text, and when it ends |
//! | `options.rs`, `token_stream.rs`, `language_model.rs` | text in, text out: the interface for programs |
//!
//! ```
//! use mlx_gpt::generate::sample_rng;
//! use mlx_gpt::generate::sampler::Sampling;
//!
//! let choice = Sampling::GREEDY.sample(&[0.0, 2.0, 1.0], &[], &mut sample_rng(0, 0))?; // from logits to a token
//! assert_eq!(choice.id, 1);
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod bos_eos;
mod completion;
mod continuations;
mod decode_batch;
mod language_model;
mod options;
pub mod sampler;
pub mod stop;
mod token_stream;
mod window;

use std::ops::Range;

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::compute::memory;
use crate::config::ModelConfig;
use crate::model::{Model, Parameters};
use crate::tokenizer::Tokenizer;
pub use completion::{Completion, CompletionBuilder, FinishReason, StopCriteria};
pub use decode_batch::DecodeBatch;
pub use language_model::LanguageModel;
pub use options::CompletionOptions;
use sampler::{SampledToken, Sampling};
pub use token_stream::{Token, TokenStream};

/// Memory in bytes for the KV cache and logits of a batch of samples: enough for 14 samples of GPT-2's smallest size, or one
/// of its largest. It bounds memory independently of the number of samples.
const BATCH_BYTES: usize = 1 << 30;

/// Largest batch of samples. On two cores throughput saturates (at the preset nano 980 tokens a second for one, 2763 for 4,
/// 5091 for 16, 6350 for 64), and each sample of a larger batch would stream more slowly.
const MAX_BATCH_ROWS: usize = 64;

/// A model ready to continue token sequences.
pub struct Generator {
    model: Model,
    config: ModelConfig,
    /// Ids of the vocabulary without a token, as in a padded one; never sampled.
    unused_ids: Vec<u32>,
}

/// A sample of the current batch.
struct Sample {
    number: u64,
    rng: ChaCha8Rng,
    active: bool,
}

impl Generator {
    /// A generator that may sample every id of the vocabulary.
    ///
    /// # Errors
    /// Parameters that are not the model's, or a context whose keys and values no memory here can hold.
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        memory::ensure_fits(
            format_args!("generation with a context of {} tokens", config.context),
            memory::kv_cache_bytes(config),
            "take a model with a smaller context, or a machine with more memory",
        )?;
        Ok(Self {
            model: Model::new(config, parameters)?,
            config: config.clone(),
            unused_ids: Vec::new(),
        })
    }

    /// The same generator, which never samples an id without a token in `tokenizer`.
    pub fn for_tokenizer(self, tokenizer: &Tokenizer) -> Self {
        Self {
            unused_ids: unused_ids(tokenizer, self.config.vocab_size),
            ..self
        }
    }

    /// Samples the token after the context of `context_ids` from its `logits`, `[V]`.
    ///
    /// # Errors
    /// As [`Sampling::sample`].
    pub fn sample(
        &self,
        sampling: &Sampling,
        logits: &[f32],
        context_ids: &[u32],
        rng: &mut ChaCha8Rng,
    ) -> Result<SampledToken> {
        sampling.sample_excluding(logits, &self.unused_ids, context_ids, rng)
    }

    /// Generates the samples of `prompt` with the numbers `samples`, each of any length: when the context is full, its last
    /// half is kept and the cache is rebuilt. `on_token` is called with each sampled token and the number of its sample,
    /// and ends that sample by returning false.
    ///
    /// A sample depends only on the prompt, `sampling`, `seed` and its number; the batch it is generated in can change it
    /// only through the order of floating-point sums.
    ///
    /// # Errors
    /// An empty prompt, invalid sampling options, or an error of MLX's or of `on_token`.
    pub fn generate(
        &self,
        prompt: &[u32],
        samples: Range<u64>,
        sampling: &Sampling,
        seed: u64,
        mut on_token: impl FnMut(u64, SampledToken) -> Result<bool>,
    ) -> Result<()> {
        ensure!(!prompt.is_empty(), "the prompt is empty; give at least one token");
        sampling.validate()?;
        let batch_size = self.batch_size();
        for first in samples.clone().step_by(batch_size) {
            let numbers = first..samples.end.min(first + batch_size as u64);
            let batch = numbers.map(|number| Sample {
                number,
                rng: sample_rng(seed, number),
                active: true,
            });
            self.generate_batch(prompt, batch.collect(), sampling, &mut on_token)?;
        }
        Ok(())
    }

    /// An empty sequence, for callers that append tokens themselves.
    ///
    /// # Errors
    /// An error of MLX's.
    pub fn sequence(&self) -> Result<DecodeBatch<'_>> {
        DecodeBatch::new(&self.model, &self.config, 1)
    }

    fn generate_batch(
        &self,
        prompt: &[u32],
        mut samples: Vec<Sample>,
        sampling: &Sampling,
        on_token: &mut impl FnMut(u64, SampledToken) -> Result<bool>,
    ) -> Result<()> {
        // The prompt is the same for all samples: its KV cache is computed once.
        let mut sequences = self.sequence()?;
        prompt.iter().for_each(|&id| sequences.push(&[id]));
        let mut logits = sequences.next_logits()?.repeat(samples.len());
        sequences.repeat(samples.len())?;
        loop {
            let mut ids = Vec::with_capacity(samples.len());
            let rows = logits.chunks(self.config.vocab_size);
            for (row, (sample, logits)) in samples.iter_mut().zip(rows).enumerate() {
                let choice = self.sample(sampling, logits, sequences.window(row), &mut sample.rng)?;
                ids.push(choice.id);
                sample.active = on_token(sample.number, choice)?;
            }
            let active: Vec<usize> = (0..samples.len()).filter(|&row| samples[row].active).collect();
            if active.is_empty() {
                return Ok(());
            }
            sequences.push(&ids);
            if active.len() < samples.len() {
                sequences.select_rows(&active)?;
                samples.retain(|sample| sample.active);
            }
            logits = sequences.next_logits()?;
        }
    }

    /// Samples that are generated in one batch.
    fn batch_size(&self) -> usize {
        let logits = self.config.vocab_size * size_of::<f32>();
        let row = memory::kv_cache_bytes(&self.config) as usize + logits;
        (BATCH_BYTES / row).clamp(1, MAX_BATCH_ROWS)
    }
}

/// The ids of a vocabulary of that size without a token in `tokenizer`: padding, as nanoGPT's 50257 tokens are padded to
/// 50304, and gaps between added tokens.
pub fn unused_ids(tokenizer: &Tokenizer, vocab_size: usize) -> Vec<u32> {
    (0..vocab_size as u32)
        .filter(|&id| tokenizer.token_bytes(id).is_none())
        .collect()
}

/// The random numbers of a sample: each has a stream of its own.
pub fn sample_rng(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

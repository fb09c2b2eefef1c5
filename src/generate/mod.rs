//! Text from a model: one token at a time, each chosen from what the model expects next.
//!
//! | file | what it is |
//! |---|---|
//! | `sampler.rs` | from logits to one token; arithmetic |
//! | `window.rs`, `sequences.rs` | the tokens that the model looks at; rows of them with their key-value cache |
//! | `boundaries.rs` | the tokens that begin and end a text |
//! | `stop.rs`, `completion.rs` | text up to a stop string; tokens to text, and when it ends |
//! | `options.rs`, `token_stream.rs`, `language_model.rs` | text in and text out: what a program calls |
//!
//! ```
//! use mlx_gpt::generate::sample_rng;
//! use mlx_gpt::generate::sampler::Sampling;
//!
//! let choice = Sampling::GREEDY.choose(&[0.0, 2.0, 1.0], &[], &mut sample_rng(0, 0))?; // from logits to a token
//! assert_eq!(choice.id, 1);
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod boundaries;
mod completion;
mod language_model;
mod options;
pub mod sampler;
mod sequences;
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
pub use completion::{Completion, Ending, FinishReason, Writer};
pub use language_model::LanguageModel;
pub use options::CompletionOptions;
use sampler::{Choice, Sampling};
pub use sequences::Sequences;
pub use token_stream::{Token, TokenStream};

/// Memory for the keys, values and logits of samples that are written at once: 14 of GPT-2's smallest size, one of its
/// largest, so that no number of samples asks for more than a machine that holds the model has.
const GROUP_BYTES: usize = 1 << 30;

/// Samples that are written at once, at most: on two cores, more are not faster in all (at the preset nano 980 tokens a
/// second for one, 2763 for 4, 5091 for 16, 6350 for 64), and each would appear more slowly.
const GROUP_ROWS: usize = 64;

/// A model ready to continue token sequences.
pub struct Generator {
    model: Model,
    config: ModelConfig,
    /// Ids of the vocabulary that no token has, as where it is padded.
    absent: Vec<u32>,
}

/// A sample that is being written.
struct Row {
    number: u64,
    rng: ChaCha8Rng,
    going: bool,
}

impl Generator {
    /// # Errors
    /// Parameters that are not the model's, or a context whose keys and values no memory here can hold.
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        memory::ensure_fits(
            format_args!("generation with a context of {} tokens", config.context),
            memory::of_generation(config),
            "take a model with a smaller context, or a machine with more memory",
        )?;
        Ok(Self {
            model: Model::new(config, parameters)?,
            config: config.clone(),
            absent: Vec::new(),
        })
    }

    /// The same, never choosing an id that `tokenizer` has no token for.
    pub fn for_tokenizer(self, tokenizer: &Tokenizer) -> Self {
        Self {
            absent: absent_ids(tokenizer, self.config.vocab_size),
            ..self
        }
    }

    /// Chooses a token after those that the model looks at, `seen`, from what it expects next.
    ///
    /// # Errors
    /// As [`Sampling::choose`].
    pub fn choose(&self, sampling: &Sampling, logits: &[f32], seen: &[u32], rng: &mut ChaCha8Rng) -> Result<Choice> {
        sampling.choose_except(logits, &self.absent, seen, rng)
    }

    /// Continues `prompt` in as many ways as `samples` has numbers, each to any length: when the context is full, its
    /// last half is kept and filled up again. `on_token` hears each token as it is chosen, with the number of its
    /// sample, and ends that sample by returning false.
    ///
    /// A sample is a function of prompt, `sampling`, `seed` and its number: those beside it change nothing but the order
    /// in which MLX adds up.
    ///
    /// # Errors
    /// An empty prompt, a sampling that cannot be, or an error of MLX's or of `on_token`.
    pub fn generate(
        &self,
        prompt: &[u32],
        samples: Range<u64>,
        sampling: &Sampling,
        seed: u64,
        mut on_token: impl FnMut(u64, Choice) -> Result<bool>,
    ) -> Result<()> {
        ensure!(!prompt.is_empty(), "the prompt is empty; give at least one character");
        sampling.validate()?;
        let at_once = self.rows_at_once();
        for first in samples.clone().step_by(at_once) {
            let numbers = first..samples.end.min(first + at_once as u64);
            let rows = numbers.map(|number| Row {
                number,
                rng: sample_rng(seed, number),
                going: true,
            });
            self.write_group(prompt, rows.collect(), sampling, &mut on_token)?;
        }
        Ok(())
    }

    /// A sequence without tokens, for whoever continues it in steps of their own.
    ///
    /// # Errors
    /// An error of MLX's.
    pub fn sequence(&self) -> Result<Sequences<'_>> {
        Sequences::new(&self.model, &self.config)
    }

    fn write_group(
        &self,
        prompt: &[u32],
        mut rows: Vec<Row>,
        sampling: &Sampling,
        on_token: &mut impl FnMut(u64, Choice) -> Result<bool>,
    ) -> Result<()> {
        // The prompt is the same for all: one row computes it.
        let mut sequences = self.sequence()?;
        prompt.iter().for_each(|&id| sequences.push(&[id]));
        let mut logits = sequences.next_logits()?.repeat(rows.len());
        sequences.repeat(rows.len())?;
        loop {
            let mut chosen = Vec::with_capacity(rows.len());
            for (place, (row, logits)) in rows.iter_mut().zip(logits.chunks(self.config.vocab_size)).enumerate() {
                let choice = self.choose(sampling, logits, sequences.window(place), &mut row.rng)?;
                chosen.push(choice.id);
                row.going = on_token(row.number, choice)?;
            }
            let going: Vec<usize> = (0..rows.len()).filter(|&place| rows[place].going).collect();
            if going.is_empty() {
                return Ok(());
            }
            sequences.push(&chosen);
            if going.len() < rows.len() {
                sequences.keep(&going)?;
                rows.retain(|row| row.going);
            }
            logits = sequences.next_logits()?;
        }
    }

    fn rows_at_once(&self) -> usize {
        let logits = self.config.vocab_size * size_of::<f32>();
        let row = memory::of_generation(&self.config) as usize + logits;
        (GROUP_BYTES / row).clamp(1, GROUP_ROWS)
    }
}

/// The ids of a vocabulary of that size that `tokenizer` has no token for: those that it was padded with, such as
/// nanoGPT's 50257 tokens to 50304, and gaps between added tokens.
pub fn absent_ids(tokenizer: &Tokenizer, vocab_size: usize) -> Vec<u32> {
    (0..vocab_size as u32)
        .filter(|&id| tokenizer.token_bytes(id).is_none())
        .collect()
}

/// The random numbers of a sample: a stream of its own for each.
pub fn sample_rng(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

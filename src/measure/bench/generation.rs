//! Generation speed of a model size, with a batch of one.

use std::time::{Duration, Instant};

use anyhow::Result;
use mlx_rs::transforms::eval;
use serde::Serialize;

use super::flops;
use super::machine::Peaks;
use super::timing::{Rounds, median, milliseconds};
use crate::config::ModelConfig;
use crate::generate::Generator;
use crate::generate::sampler::Sampling;
use crate::model::init;

/// Tokens of the prompt.
const PROMPT: u32 = 8;
/// Tokens that are generated after the first.
const TOKENS: usize = 64;

/// Generation with a batch of one, without sampling filters, in float32.
#[derive(Clone, Debug, Serialize)]
pub struct Generation {
    /// Length of the model's context.
    pub context: usize,
    /// Length of the prompt.
    pub prompt_tokens: u32,
    /// Time to the first token.
    pub first_token_milliseconds: f64,
    /// From the median time of the tokens after the first.
    pub tokens_per_second: f64,
    /// [`flops::weight_bytes_per_token`].
    pub bytes_per_token: u64,
    /// Fraction of the memory bandwidth, if that was measured.
    pub share_of_bandwidth: Option<f64>,
}

impl Generation {
    /// Measures with random weights; the speed does not depend on them.
    ///
    /// # Errors
    /// A model that memory cannot hold, or an error of MLX's.
    pub fn measure(model: &ModelConfig, peaks: Option<&Peaks>) -> Result<Self> {
        let parameters = init::initialize(model, 1)?;
        eval(parameters.arrays())?;
        let generator = Generator::new(model, &parameters)?;
        write(&generator, 2)?; // kernels are built, buffers are got
        let first = Rounds::Exactly(3).repeat(|| write(&generator, 1))?;
        let gaps = write(&generator, 1 + TOKENS)?.split_off(1);
        let tokens_per_second = 1.0 / median(gaps).as_secs_f64();
        let bytes_per_token = flops::weight_bytes_per_token(model);
        Ok(Self {
            context: model.context,
            prompt_tokens: PROMPT,
            first_token_milliseconds: milliseconds(median(first.concat())),
            tokens_per_second,
            bytes_per_token,
            share_of_bandwidth: peaks.map(|peaks| bytes_per_token as f64 * tokens_per_second / peaks.bandwidth),
        })
    }
}

/// The time of each of `tokens` tokens.
fn write(generator: &Generator, tokens: usize) -> Result<Vec<Duration>> {
    let prompt: Vec<u32> = (0..PROMPT).collect();
    let mut times = Vec::with_capacity(tokens);
    let mut since = Instant::now();
    generator.generate(&prompt, 0..1, &Sampling::PLAIN, 1, |_, _| {
        times.push(since.elapsed());
        since = Instant::now();
        Ok(times.len() < tokens)
    })?;
    Ok(times)
}

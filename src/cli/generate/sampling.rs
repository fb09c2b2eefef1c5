//! The options of sampling.

use anyhow::Result;
use clap::Args;

use crate::generate::sampler::Sampling;

/// The options of [`Sampling`].
#[derive(Args)]
pub struct SamplingOptions {
    /// Sampling temperature: higher is more random; 0 is greedy decoding
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f32,
    /// Top-k sampling: only the K most likely tokens; 0 disables it
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Nucleus (top-p) sampling: only the smallest set of most likely tokens with total probability P; 1 disables it
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f32,
    /// Min-p sampling: only tokens at least P times as likely as the most likely one; 0 disables it
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f32,
    /// Repetition penalty: above 1, tokens in the context become less likely; 1 disables it
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f32,
}

impl SamplingOptions {
    /// The sampling that they ask for.
    ///
    /// # Errors
    /// As [`Sampling::validate`].
    pub fn sampling(&self) -> Result<Sampling> {
        let sampling = Sampling {
            repetition_penalty: self.repetition_penalty,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
        };
        sampling.validate()?;
        Ok(sampling)
    }
}

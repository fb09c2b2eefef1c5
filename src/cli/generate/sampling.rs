//! How tokens are chosen, as options.

use anyhow::Result;
use clap::Args;

use crate::generate::sampler::Sampling;

#[derive(Args)]
pub struct SamplingOptions {
    /// Higher is more daring; 0 always takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw from the K most likely tokens only; 0 from all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw from the fewest most likely tokens whose probability reaches P only; 1 from all
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f32,
    /// Draw from tokens at least P times as likely as the most likely one only; 0 from all
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f32,
    /// Over 1, tokens that the model sees already become less likely; 1 leaves them
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f32,
}

impl SamplingOptions {
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

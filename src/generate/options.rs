//! Options of a completion.

use super::sampler::Sampling;
use crate::config::SpecialTokens;

/// Options of a completion: sampling, stop criteria, seed.
///
/// ```
/// use mlx_gpt::CompletionOptions;
/// use mlx_gpt::generate::sampler::Sampling;
///
/// let options = CompletionOptions {
///     max_new_tokens: 50,
///     sampling: Sampling::GREEDY,
///     stop: vec!["\n\n".into()],
///     ..CompletionOptions::default()
/// };
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionOptions {
    /// Most tokens to generate.
    pub max_new_tokens: usize,
    /// Sampling options.
    pub sampling: Sampling,
    /// Stop strings, which are not part of the text; the first that is complete ends it.
    pub stop: Vec<String>,
    /// Continues after eos tokens.
    pub ignore_end_of_text: bool,
    /// How special tokens in the prompt are encoded.
    pub special: SpecialTokens,
    /// Seed of the random numbers: a text is a function of the model, the prompt, these options and the number of its sample.
    pub seed: u64,
}

impl Default for CompletionOptions {
    /// 500 tokens at temperature 0.8, with seed 0.
    fn default() -> Self {
        Self {
            max_new_tokens: 500,
            sampling: Sampling {
                temperature: 0.8,
                ..Sampling::PLAIN
            },
            stop: Vec::new(),
            ignore_end_of_text: false,
            special: SpecialTokens::Text,
            seed: 0,
        }
    }
}

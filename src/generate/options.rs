//! The options of a completion.

use super::sampler::Sampling;
use crate::config::SpecialTokens;

/// How tokens are sampled, and when the completion ends.
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
    /// Maximum number of tokens to generate.
    pub max_new_tokens: usize,
    /// How each token is sampled.
    pub sampling: Sampling,
    /// Stop strings, which are not part of the output; the one that is completed first counts.
    pub stop: Vec<String>,
    /// Don't stop at eos tokens.
    pub ignore_eos: bool,
    /// How to encode the text of special tokens in the prompt.
    pub special: SpecialTokens,
    /// Random seed: a completion is a function of the model, the prompt, these options and the index of the sample.
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
            ignore_eos: false,
            special: SpecialTokens::Text,
            seed: 0,
        }
    }
}

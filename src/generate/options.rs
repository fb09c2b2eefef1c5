//! How a text goes on, and when it ends.

use super::sampler::Sampling;
use crate::config::SpecialTokens;

/// How a text goes on, and when it ends.
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
    /// Tokens to write, at most.
    pub max_new_tokens: usize,
    /// How each token is chosen.
    pub sampling: Sampling,
    /// Texts before which it ends; the one that is complete first counts.
    pub stop: Vec<String>,
    /// Goes on after a token that ends a text.
    pub ignore_end_of_text: bool,
    /// What becomes of special tokens whose text is in the prompt.
    pub special: SpecialTokens,
    /// Repeats a draw: a text is a function of the model, the prompt, these options and the number of its sample.
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

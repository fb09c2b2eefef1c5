//! Turns sampled tokens into a completion, and decides when it ends.

use anyhow::Result;
use serde::Serialize;

use super::sampler::SampledToken;
use super::stop::StopStrings;
use super::{CompletionOptions, Generator, bos_eos};
use crate::tokenizer::{StreamDecoder, Tokenizer};

/// What ends a completion, whichever comes first. If the same token completes a stop string and reaches the maximum, the
/// stop string counts.
#[derive(Clone, Debug)]
pub struct StopCriteria {
    /// Maximum number of tokens.
    pub max_new_tokens: usize,
    /// Stop strings, which are not part of the text.
    pub stop: Vec<String>,
    /// The eos tokens.
    pub eos_tokens: Vec<u32>,
}

impl StopCriteria {
    /// Those of `options`, with the eos tokens of the model and its tokenizer.
    pub fn new(options: &CompletionOptions, generator: &Generator, tokenizer: &Tokenizer) -> Self {
        Self {
            max_new_tokens: options.max_new_tokens,
            stop: options.stop.clone(),
            eos_tokens: if options.ignore_eos {
                Vec::new()
            } else {
                bos_eos::eos_tokens(&generator.config, tokenizer)
            },
        }
    }
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It has `max_new_tokens` tokens.
    Length,
    /// A stop string was completed.
    Stop,
    /// An eos token was sampled.
    #[serde(rename = "end_of_text")]
    Eos,
    /// [`TokenStream::stop`](super::TokenStream::stop) ended it.
    Cancelled,
}

/// The continuation of a prompt.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Completion {
    /// The text, without the prompt, the stop string and the eos token.
    pub text: String,
    /// All sampled tokens, including those of the stop string and the eos token.
    pub ids: Vec<u32>,
    /// Their log-probabilities (natural logarithm) under the model.
    pub logprobs: Vec<f32>,
    /// `None` while it is being generated.
    pub finish_reason: Option<FinishReason>,
}

/// Builds a completion token by token.
#[derive(Clone, Debug)]
pub struct CompletionBuilder<'a> {
    completion: Completion,
    decoder: StreamDecoder<'a>,
    stop: StopStrings,
    max_new_tokens: usize,
    eos_tokens: Vec<u32>,
}

impl<'a> CompletionBuilder<'a> {
    /// An empty completion.
    pub fn new(tokenizer: &'a Tokenizer, criteria: &StopCriteria) -> Self {
        Self {
            completion: Completion {
                finish_reason: (criteria.max_new_tokens == 0).then_some(FinishReason::Length),
                ..Completion::default()
            },
            decoder: StreamDecoder::new(tokenizer),
            stop: StopStrings::new(criteria.stop.clone()),
            max_new_tokens: criteria.max_new_tokens,
            eos_tokens: criteria.eos_tokens.clone(),
        }
    }

    /// The completion so far.
    pub fn completion(&self) -> &Completion {
        &self.completion
    }

    /// The completion so far, by value.
    pub fn into_completion(self) -> Completion {
        self.completion
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.completion.finish_reason.is_some()
    }

    /// Appends a token, and returns the text that it completes: incomplete characters and possible beginnings of stop strings
    /// are buffered.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn push(&mut self, choice: SampledToken) -> Result<String> {
        self.completion.ids.push(choice.id);
        self.completion.logprobs.push(choice.logprob);
        let mut text = String::new();
        let mut ended = None;
        if self.eos_tokens.contains(&choice.id) {
            ended = Some(FinishReason::Eos);
        } else {
            text = self.stop.push(&self.decoder.push(choice.id)?);
            self.completion.text += &text;
            if self.completion.ids.len() >= self.max_new_tokens {
                ended = Some(FinishReason::Length);
            }
        }
        if ended.is_some() {
            text += &self.rest()?;
        }
        self.completion.finish_reason = if self.stop.stopped() {
            Some(FinishReason::Stop)
        } else {
            ended
        };
        Ok(text)
    }

    /// Ends the completion early, and returns the buffered text; if it has ended already, nothing.
    ///
    /// # Errors
    /// Only those of [`push`](Self::push).
    pub fn cancel(&mut self) -> Result<String> {
        if self.is_finished() {
            return Ok(String::new()); // nothing is buffered
        }
        self.completion.finish_reason = Some(FinishReason::Cancelled);
        let text = self.rest()?;
        if self.stop.stopped() {
            self.completion.finish_reason = Some(FinishReason::Stop);
        }
        Ok(text)
    }

    fn rest(&mut self) -> Result<String> {
        let text = self.stop.push(&self.decoder.clone().finish()?) + &self.stop.finish();
        self.completion.text += &text;
        Ok(text)
    }
}

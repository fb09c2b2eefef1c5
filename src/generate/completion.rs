//! Tokens to text, and the stop criteria.

use anyhow::Result;
use serde::Serialize;

use super::sampler::Choice;
use super::stop::StopStrings;
use super::{CompletionOptions, Generator, boundaries};
use crate::tokenizer::{StreamDecoder, Tokenizer};

/// Stop criteria; the first that is met ends the text.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Most tokens to generate.
    pub max_new_tokens: usize,
    /// Stop strings, which are not part of the text.
    pub stop: Vec<String>,
    /// Eos tokens, which are not part of the text.
    pub end_tokens: Vec<u32>,
}

impl Ending {
    /// The stop criteria of `options`, with the eos tokens of the model or else the tokenizer.
    pub fn new(options: &CompletionOptions, generator: &Generator, tokenizer: &Tokenizer) -> Self {
        Self {
            max_new_tokens: options.max_new_tokens,
            stop: options.stop.clone(),
            end_tokens: if options.ignore_end_of_text {
                Vec::new()
            } else {
                boundaries::end_tokens(&generator.config, tokenizer)
            },
        }
    }
}

/// Which stop criterion ended a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// `max_new_tokens` was reached.
    Length,
    /// A stop string matched.
    Stop,
    /// An eos token was sampled.
    EndOfText,
}

/// The continuation of a prompt.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Completion {
    /// Its text, without the prompt, the stop string and the eos token.
    pub text: String,
    /// All sampled tokens, including those of the stop string and the eos token.
    pub ids: Vec<u32>,
    /// Natural logarithm of the probability of each of them under the unmodified distribution.
    pub logprobs: Vec<f32>,
    /// None while it is being generated.
    pub finish_reason: Option<FinishReason>,
}

/// Builds a completion token by token.
#[derive(Clone, Debug)]
pub struct Writer<'a> {
    completion: Completion,
    decoder: StreamDecoder<'a>,
    stop: StopStrings,
    max_new_tokens: usize,
    end_tokens: Vec<u32>,
}

impl<'a> Writer<'a> {
    /// An empty completion, which is finished already if no token may be generated.
    pub fn new(tokenizer: &'a Tokenizer, ending: &Ending) -> Self {
        Self {
            completion: Completion {
                finish_reason: (ending.max_new_tokens == 0).then_some(FinishReason::Length),
                ..Completion::default()
            },
            decoder: StreamDecoder::new(tokenizer),
            stop: StopStrings::new(ending.stop.clone()),
            max_new_tokens: ending.max_new_tokens,
            end_tokens: ending.end_tokens.clone(),
        }
    }

    /// The completion so far.
    pub fn completion(&self) -> &Completion {
        &self.completion
    }

    pub fn into_completion(self) -> Completion {
        self.completion
    }

    /// Whether a stop criterion was met.
    pub fn is_finished(&self) -> bool {
        self.completion.finish_reason.is_some()
    }

    /// Adds a token, and returns the text that it completes: incomplete characters, and text that may begin a stop string,
    /// are held back.
    ///
    /// # Errors
    /// An unknown id.
    pub fn push(&mut self, choice: Choice) -> Result<String> {
        self.completion.ids.push(choice.id);
        self.completion.logprobs.push(choice.logprob);
        let mut text = String::new();
        let mut ended = None;
        if self.end_tokens.contains(&choice.id) {
            ended = Some(FinishReason::EndOfText);
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

    /// Returns the text that was held back, when generation ends early.
    ///
    /// # Errors
    /// Only those of [`push`](Self::push).
    pub fn finish(&mut self) -> Result<String> {
        if self.is_finished() {
            return Ok(String::new()); // nothing is held back
        }
        self.rest()
    }

    fn rest(&mut self) -> Result<String> {
        let text = self.stop.push(&self.decoder.clone().finish()?) + &self.stop.finish();
        self.completion.text += &text;
        Ok(text)
    }
}

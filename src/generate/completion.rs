//! Tokens to text, and when the text ends.

use anyhow::Result;
use serde::Serialize;

use super::sampler::Choice;
use super::stop::StopStrings;
use super::{CompletionOptions, Generator, boundaries};
use crate::tokenizer::{StreamDecoder, Tokenizer};

/// What ends a text, whichever comes first.
#[derive(Clone, Debug)]
pub struct Ending {
    pub max_new_tokens: usize,
    /// Texts before which it ends.
    pub stop: Vec<String>,
    /// The tokens after which nothing comes.
    pub end_tokens: Vec<u32>,
}

impl Ending {
    /// That of `options`, for texts of a model and its tokenizer.
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

/// What ended a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It has as many tokens as it may have.
    Length,
    /// A stop string came.
    Stop,
    /// A token came that ends a text.
    EndOfText,
}

/// The continuation of a prompt.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Completion {
    /// Its text: without the prompt, up to the stop string, without the token that ended it.
    pub text: String,
    /// All tokens that were chosen, those of the stop string and the token that ended it included.
    pub ids: Vec<u32>,
    /// The natural logarithm of the probability that the model gave to each of them.
    pub logprobs: Vec<f32>,
    /// None while it is being written.
    pub finish_reason: Option<FinishReason>,
}

/// Writes a completion token by token.
#[derive(Clone, Debug)]
pub struct Writer<'a> {
    completion: Completion,
    decoder: StreamDecoder<'a>,
    stop: StopStrings,
    max_new_tokens: usize,
    end_tokens: Vec<u32>,
}

impl<'a> Writer<'a> {
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

    /// What is written so far.
    pub fn completion(&self) -> &Completion {
        &self.completion
    }

    pub fn into_completion(self) -> Completion {
        self.completion
    }

    pub fn is_finished(&self) -> bool {
        self.completion.finish_reason.is_some()
    }

    /// Takes the next token, and gives the text that is certain with it: bytes that are no whole character yet, and text
    /// that may begin a stop string, wait for what comes next.
    ///
    /// # Errors
    /// An id that no token has.
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

    /// Gives what is waiting, for a text that goes on no further.
    ///
    /// # Errors
    /// None that [`push`](Self::push) would not have met.
    pub fn finish(&mut self) -> Result<String> {
        if self.is_finished() {
            return Ok(String::new()); // nothing is waiting
        }
        self.rest()
    }

    fn rest(&mut self) -> Result<String> {
        let text = self.stop.push(&self.decoder.clone().finish()?) + &self.stop.finish();
        self.completion.text += &text;
        Ok(text)
    }
}

//! Streaming generation: a token at a time.

use anyhow::anyhow;
use rand_chacha::ChaCha8Rng;

use super::{Completion, CompletionBuilder, CompletionOptions, DecodeBatch, Generator, StopCriteria, sample_rng};
use crate::error::{ErrorKind, OfKind, Result};
use crate::tokenizer::Tokenizer;

/// A sampled token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its log-probability (natural logarithm) under the model.
    pub logprob: f32,
    /// The text that this token completes: incomplete characters and possible beginnings of stop strings come with later
    /// tokens.
    pub text: String,
}

/// An iterator over the tokens that a model generates after a text, which ends where the completion does.
///
/// The text can then be extended by given tokens ([`push`](Self::push)) and by another completion
/// ([`begin_completion`](Self::begin_completion)); the key-value cache is kept.
pub struct TokenStream<'a> {
    generator: &'a Generator,
    tokenizer: &'a Tokenizer,
    sequence: DecodeBatch<'a>,
    builder: CompletionBuilder<'a>,
    options: CompletionOptions,
    rng: ChaCha8Rng,
    failed: bool,
}

impl<'a> TokenStream<'a> {
    /// Begins a completion after the tokens of `prompt`, which may be empty until [`push`](Self::push).
    ///
    /// # Errors
    /// An invalid sampling, or an error of MLX's.
    pub fn new(
        generator: &'a Generator,
        tokenizer: &'a Tokenizer,
        prompt: &[u32],
        options: &CompletionOptions,
    ) -> Result<Self> {
        options.sampling.validate().of_kind(ErrorKind::Options)?;
        let mut tokens = Self {
            generator,
            tokenizer,
            sequence: generator.sequence().of_kind(ErrorKind::Compute)?,
            builder: CompletionBuilder::new(tokenizer, &StopCriteria::new(options, generator, tokenizer)),
            options: options.clone(),
            rng: sample_rng(options.seed, 0),
            failed: false,
        };
        tokens.push(prompt);
        Ok(tokens)
    }

    /// Appends given tokens to the text.
    pub fn push(&mut self, ids: &[u32]) {
        ids.iter().for_each(|&id| self.sequence.push(&[id]));
    }

    /// The model's current context: the last tokens of the text.
    pub fn window(&self) -> &[u32] {
        self.sequence.window(0)
    }

    /// Begins another completion after the text so far. The random number generator is not reset.
    ///
    /// # Errors
    /// An invalid sampling.
    pub fn begin_completion(&mut self, options: &CompletionOptions) -> Result<()> {
        options.sampling.validate().of_kind(ErrorKind::Options)?;
        self.options = options.clone();
        self.builder = CompletionBuilder::new(
            self.tokenizer,
            &StopCriteria::new(options, self.generator, self.tokenizer),
        );
        self.failed = false;
        Ok(())
    }

    /// The current completion so far.
    pub fn completion(&self) -> &Completion {
        self.builder.completion()
    }

    /// Ends the completion early, and returns the buffered text. The iterator has no more tokens then, until another completion
    /// begins.
    ///
    /// # Errors
    /// None that the iterator would not have returned.
    pub fn stop(&mut self) -> Result<String> {
        self.builder.cancel().of_kind(ErrorKind::Text)
    }

    /// Generates the completion to its end.
    ///
    /// # Errors
    /// The first that the iterator returns.
    pub fn complete(mut self) -> Result<Completion> {
        for token in &mut self {
            token?;
        }
        Ok(self.builder.into_completion())
    }

    fn sample_next(&mut self) -> Result<Token> {
        ensure_tokens(self.window())?;
        let logits = self.sequence.next_logits().of_kind(ErrorKind::Compute)?;
        let choice = self
            .generator
            .sample(&self.options.sampling, &logits, self.sequence.window(0), &mut self.rng)
            .of_kind(ErrorKind::Compute)?;
        self.sequence.push(&[choice.id]);
        let text = self.builder.push(choice).of_kind(ErrorKind::Text)?;
        Ok(Token {
            id: choice.id,
            logprob: choice.logprob,
            text,
        })
    }
}

/// Checks that a text to be continued has tokens.
pub(super) fn ensure_tokens(ids: &[u32]) -> Result<()> {
    let found = if ids.is_empty() {
        Err(anyhow!(
            "the prompt has no tokens: the tokenizer leaves nothing of its text; give another one"
        ))
    } else {
        Ok(())
    };
    found.of_kind(ErrorKind::Text)
}

impl Iterator for TokenStream<'_> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.builder.is_finished() || self.failed {
            return None;
        }
        let token = self.sample_next();
        self.failed = token.is_err();
        Some(token)
    }
}

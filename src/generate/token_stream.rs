//! Streaming generation, a token at a time.

use rand_chacha::ChaCha8Rng;

use super::{Completion, CompletionOptions, Ending, Generator, Sequences, Writer, sample_rng};
use crate::error::{ErrorKind, OfKind, Result};
use crate::tokenizer::Tokenizer;

/// A sampled token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability under the unmodified distribution.
    pub logprob: f32,
    /// The text that it completes: incomplete characters, and text that may begin a stop string, come with later tokens.
    pub text: String,
}

/// The tokens of a completion: an iterator that ends with it.
///
/// The text can be continued afterwards: [`push`](Self::push) appends a user's tokens, [`go_on`](Self::go_on) starts the
/// next completion. The KV cache is kept.
pub struct TokenStream<'a> {
    generator: &'a Generator,
    tokenizer: &'a Tokenizer,
    sequence: Sequences<'a>,
    writer: Writer<'a>,
    options: CompletionOptions,
    rng: ChaCha8Rng,
    failed: bool,
}

impl<'a> TokenStream<'a> {
    /// A completion of the tokens of `prompt`, which may be empty until the first [`push`](Self::push).
    ///
    /// # Errors
    /// Invalid sampling options, or an error of MLX's.
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
            writer: Writer::new(tokenizer, &Ending::new(options, generator, tokenizer)),
            options: options.clone(),
            rng: sample_rng(options.seed, 0),
            failed: false,
        };
        tokens.push(prompt);
        Ok(tokens)
    }

    /// Appends tokens that the model did not generate.
    pub fn push(&mut self, ids: &[u32]) {
        ids.iter().for_each(|&id| self.sequence.push(&[id]));
    }

    /// The context window: the last tokens of the text.
    pub fn window(&self) -> &[u32] {
        self.sequence.window(0)
    }

    /// Starts another completion after the text so far; its random numbers continue those of the last one.
    ///
    /// # Errors
    /// Invalid sampling options.
    pub fn go_on(&mut self, options: &CompletionOptions) -> Result<()> {
        options.sampling.validate().of_kind(ErrorKind::Options)?;
        self.options = options.clone();
        self.writer = Writer::new(self.tokenizer, &Ending::new(options, self.generator, self.tokenizer));
        self.failed = false;
        Ok(())
    }

    /// The current completion so far.
    pub fn completion(&self) -> &Completion {
        self.writer.completion()
    }

    /// Ends the completion early, and returns the text that was held back.
    ///
    /// # Errors
    /// Only those of the iterator.
    pub fn stop(&mut self) -> Result<String> {
        self.writer.finish().of_kind(ErrorKind::Text)
    }

    /// Generates the completion to its end.
    ///
    /// # Errors
    /// The iterator's first.
    pub fn complete(mut self) -> Result<Completion> {
        for token in &mut self {
            token?;
        }
        Ok(self.writer.into_completion())
    }

    fn write(&mut self) -> Result<Token> {
        let logits = self.sequence.next_logits().of_kind(ErrorKind::Text)?;
        let choice = self
            .generator
            .choose(&self.options.sampling, &logits, self.sequence.window(0), &mut self.rng)
            .of_kind(ErrorKind::Compute)?;
        self.sequence.push(&[choice.id]);
        let text = self.writer.push(choice).of_kind(ErrorKind::Text)?;
        Ok(Token {
            id: choice.id,
            logprob: choice.logprob,
            text,
        })
    }
}

impl Iterator for TokenStream<'_> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.writer.is_finished() || self.failed {
            return None;
        }
        let token = self.write();
        self.failed = token.is_err();
        Some(token)
    }
}

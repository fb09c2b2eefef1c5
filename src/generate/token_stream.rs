//! Text as it is written, a token at a time.

use rand_chacha::ChaCha8Rng;

use super::{Completion, CompletionOptions, Ending, Generator, Sequences, Writer, sample_rng};
use crate::error::{ErrorKind, OfKind, Result};
use crate::tokenizer::Tokenizer;

/// A token that was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub id: u32,
    /// The natural logarithm of the probability that the model gave it.
    pub logprob: f32,
    /// The text that is certain with it: bytes that are no whole character yet, and text that may begin a stop string, wait
    /// for the tokens after it.
    pub text: String,
}

/// Tokens that a model writes after a text: an iterator that ends where the text does.
///
/// A text can go on after that: with what a person adds ([`push`](Self::push)), and with what the model says to it
/// ([`go_on`](Self::go_on)). What was computed of it stays in the model's cache.
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
    /// After `prompt`, which may be empty for now, in tokens.
    ///
    /// # Errors
    /// A sampling that cannot be, or an error of MLX's.
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

    /// Adds tokens that the model did not write.
    pub fn push(&mut self, ids: &[u32]) {
        ids.iter().for_each(|&id| self.sequence.push(&[id]));
    }

    /// The tokens that the model looks at: the last ones of the text, as many as its context holds.
    pub fn window(&self) -> &[u32] {
        self.sequence.window(0)
    }

    /// Begins another completion after the text so far. Its random numbers are those that come next.
    ///
    /// # Errors
    /// A sampling that cannot be.
    pub fn go_on(&mut self, options: &CompletionOptions) -> Result<()> {
        options.sampling.validate().of_kind(ErrorKind::Options)?;
        self.options = options.clone();
        self.writer = Writer::new(self.tokenizer, &Ending::new(options, self.generator, self.tokenizer));
        self.failed = false;
        Ok(())
    }

    /// What was written since the completion began.
    pub fn completion(&self) -> &Completion {
        self.writer.completion()
    }

    /// Ends the completion here, and gives the text that was waiting for what comes next.
    ///
    /// # Errors
    /// None that the iterator would not have met.
    pub fn stop(&mut self) -> Result<String> {
        self.writer.finish().of_kind(ErrorKind::Text)
    }

    /// Writes the completion to its end.
    ///
    /// # Errors
    /// The first that the iterator meets.
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

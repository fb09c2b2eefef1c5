//! A model with its tokenizer: text in, text out.

use std::ops::Range;

use super::{Completion, CompletionOptions, Ending, Generator, TokenStream, Writer, boundaries};
use crate::config::{ModelConfig, SpecialTokens};
use crate::error::{Error, ErrorKind, OfKind, Result};
use crate::model::Parameters;
use crate::tokenizer::Tokenizer;

/// A language model with its tokenizer, ready to continue texts.
///
/// ```no_run
/// use mlx_gpt::{CompletionOptions, LanguageModel};
///
/// let model = LanguageModel::load("runs/shakespeare-nano-20260101-120000")?; // a run, or any checkpoint
/// let completion = model.complete("ROMEO:", &CompletionOptions::default())?;
/// println!("{}", completion.text);
///
/// for token in model.tokens("ROMEO:", &CompletionOptions::default())? {
///     print!("{}", token?.text); // as it comes
/// }
/// # Ok::<(), mlx_gpt::Error>(())
/// ```
pub struct LanguageModel {
    generator: Generator,
    config: ModelConfig,
    tokenizer: Tokenizer,
}

impl LanguageModel {
    /// A model of that configuration over handles of `parameters`. It never samples an id without a token in the tokenizer,
    /// as in a padded vocabulary.
    ///
    /// # Errors
    /// Parameters that are not the model's, or a context whose keys and values no memory here can hold.
    pub fn new(config: &ModelConfig, parameters: &Parameters, tokenizer: Tokenizer) -> Result<Self> {
        Ok(Self {
            generator: Generator::new(config, parameters)
                .of_kind(ErrorKind::Compute)?
                .for_tokenizer(&tokenizer),
            config: config.clone(),
            tokenizer,
        })
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Completes `prompt`. An empty one stands for the bos token, or for a new line with a character tokenizer.
    ///
    /// # Errors
    /// A prompt that cannot be encoded, invalid options, or an error of MLX's.
    pub fn complete(&self, prompt: &str, options: &CompletionOptions) -> Result<Completion> {
        self.tokens(prompt, options)?.complete()
    }

    /// As [`complete`](Self::complete), token by token.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub fn tokens(&self, prompt: &str, options: &CompletionOptions) -> Result<TokenStream<'_>> {
        TokenStream::new(
            &self.generator,
            &self.tokenizer,
            &self.prompt(prompt, options.special)?,
            options,
        )
    }

    /// An empty text, for callers that take turns with the model.
    ///
    /// # Errors
    /// Invalid options, or an error of MLX's.
    pub fn text(&self, options: &CompletionOptions) -> Result<TokenStream<'_>> {
        TokenStream::new(&self.generator, &self.tokenizer, &[], options)
    }

    /// Several completions of one prompt in a batch, with the numbers `samples`, each the same as if generated alone.
    /// `on_text` is called with the number of a sample, its new text, and whether that was its end.
    ///
    /// # Errors
    /// As [`complete`](Self::complete), and the first of `on_text`, which ends all of them.
    pub fn samples<E: From<Error>>(
        &self,
        prompt: &str,
        samples: Range<u64>,
        options: &CompletionOptions,
        mut on_text: impl FnMut(u64, &str, bool) -> Result<(), E>,
    ) -> Result<Vec<Completion>, E> {
        let prompt = self.prompt(prompt, options.special)?;
        options.sampling.validate().of_kind(ErrorKind::Options)?;
        let first = samples.start;
        let ending = Ending::new(options, &self.generator, &self.tokenizer);
        let mut writers = vec![Writer::new(&self.tokenizer, &ending); samples.clone().count()];
        if options.max_new_tokens == 0 {
            samples.clone().try_for_each(|number| on_text(number, "", true))?;
        } else {
            let mut failed = None;
            let on_token = |number: u64, choice| {
                let writer = &mut writers[(number - first) as usize];
                let text = writer.push(choice)?;
                if failed.is_none() {
                    failed = on_text(number, &text, writer.is_finished()).err();
                }
                Ok(failed.is_none() && !writer.is_finished())
            };
            self.generator
                .generate(&prompt, samples, &options.sampling, options.seed, on_token)
                .of_kind(ErrorKind::Text)?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(writers.into_iter().map(Writer::into_completion).collect())
    }

    /// The tokens of a prompt; of an empty one, the default prompt.
    ///
    /// # Errors
    /// Text that cannot be encoded, or disallowed special tokens in it.
    pub fn prompt(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Ok(boundaries::default_prompt(&self.config, &self.tokenizer));
        }
        self.tokenizer
            .encode_with(text, &special.into())
            .of_kind(ErrorKind::Text)
    }

    /// The eos tokens.
    pub fn end_tokens(&self) -> Vec<u32> {
        boundaries::end_tokens(&self.config, &self.tokenizer)
    }
}

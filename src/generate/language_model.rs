//! A model with its tokenizer: text in, text out.

use std::fmt::{self, Debug, Formatter};
use std::ops::Range;

use super::token_stream::ensure_tokens;
use super::{Completion, CompletionBuilder, CompletionOptions, Generator, StopCriteria, TokenStream, bos_eos};
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
/// for token in model.stream("ROMEO:", &CompletionOptions::default())? {
///     print!("{}", token?.text); // streamed
/// }
/// # Ok::<(), mlx_gpt::Error>(())
/// ```
pub struct LanguageModel {
    generator: Generator,
    config: ModelConfig,
    tokenizer: Tokenizer,
}

impl Debug for LanguageModel {
    /// Its configuration, without its weights.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanguageModel")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl LanguageModel {
    /// A model of that configuration over `parameters`, which are shared and not copied. It never samples an id that the
    /// tokenizer has no token for, as in a padded vocabulary.
    ///
    /// # Errors
    /// Parameters that don't match `config`, or a context whose key-value cache doesn't fit into memory.
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

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Continues `prompt`. An empty one stands for the token that begins a text; with a character tokenizer, a new line.
    ///
    /// # Errors
    /// A prompt that the tokenizer cannot encode, invalid options, or an error of MLX's.
    pub fn complete(&self, prompt: &str, options: &CompletionOptions) -> Result<Completion> {
        self.stream(prompt, options)?.complete()
    }

    /// As [`complete`](Self::complete), but as a stream of tokens.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub fn stream(&self, prompt: &str, options: &CompletionOptions) -> Result<TokenStream<'_>> {
        TokenStream::new(
            &self.generator,
            &self.tokenizer,
            &self.prompt(prompt, options.special)?,
            options,
        )
    }

    /// An empty text, to be extended in turns with the model.
    ///
    /// # Errors
    /// Invalid options, or an error of MLX's.
    pub fn interactive(&self, options: &CompletionOptions) -> Result<TokenStream<'_>> {
        TokenStream::new(&self.generator, &self.tokenizer, &[], options)
    }

    /// Several completions of one prompt, generated in parallel: those with the indices `samples`, each as if it were alone.
    /// `on_text` is called with the index of a sample, its new text, and whether that completes the sample.
    ///
    /// # Errors
    /// As [`complete`](Self::complete), and the first error of `on_text`, which ends generation.
    pub fn complete_many<E: From<Error>>(
        &self,
        prompt: &str,
        samples: Range<u64>,
        options: &CompletionOptions,
        mut on_text: impl FnMut(u64, &str, bool) -> Result<(), E>,
    ) -> Result<Vec<Completion>, E> {
        let prompt = self.prompt(prompt, options.special)?;
        ensure_tokens(&prompt)?;
        options.sampling.validate().of_kind(ErrorKind::Options)?;
        let first = samples.start;
        let criteria = StopCriteria::new(options, &self.generator, &self.tokenizer);
        let mut builders = vec![CompletionBuilder::new(&self.tokenizer, &criteria); samples.clone().count()];
        if options.max_new_tokens == 0 {
            samples.clone().try_for_each(|number| on_text(number, "", true))?;
        } else {
            let mut failed = None;
            let on_token = |number: u64, choice| {
                let builder = &mut builders[(number - first) as usize];
                let text = builder.push(choice).of_kind(ErrorKind::Text)?;
                if failed.is_none() {
                    failed = on_text(number, &text, builder.is_finished()).err();
                }
                Ok(failed.is_none() && !builder.is_finished())
            };
            self.generator
                .generate(&prompt, samples, &options.sampling, options.seed, on_token)
                .of_kind(ErrorKind::Compute)?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(builders.into_iter().map(CompletionBuilder::into_completion).collect())
    }

    /// The tokens of a prompt; for an empty one, the default prompt.
    ///
    /// # Errors
    /// Text that the tokenizer cannot encode, or special tokens that `special` forbids.
    pub fn prompt(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Ok(bos_eos::default_prompt(&self.config, &self.tokenizer));
        }
        self.tokenizer
            .encode_with(text, &special.into())
            .of_kind(ErrorKind::Text)
    }

    /// The eos tokens.
    pub fn eos_tokens(&self) -> Vec<u32> {
        bos_eos::eos_tokens(&self.config, &self.tokenizer)
    }
}

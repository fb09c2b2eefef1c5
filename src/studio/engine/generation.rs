//! One completion, a token at a time.

use anyhow::{Context, Result, ensure};
use rand_chacha::ChaCha8Rng;
use tokio::sync::mpsc;

use super::models::Loaded;
use crate::compute::memory;
use crate::config::SpecialTokens;
use crate::error::{Error, ErrorKind};
use crate::generate::sampler::{Alternative, most_likely};
use crate::generate::{CompletionBuilder, CompletionOptions, DecodeBatch, FinishReason, StopCriteria, sample_rng};
use crate::tokenizer::chat::{Message, fit};

/// The text to continue.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// A text; an empty one stands for the token that begins a text.
    Text(String),
    /// Tokens.
    Ids(Vec<u32>),
    /// A conversation, which the model is to answer. Where the context has no room for the oldest turns, they are left out.
    Chat(Vec<Message>),
}

/// What to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// The text to continue.
    pub prompt: Prompt,
    /// Sampling, length, stop strings, seed.
    pub options: CompletionOptions,
    /// The sample's number: each has random numbers of its own.
    pub sample: u64,
    /// Its index in the answer.
    pub index: usize,
    /// How many of the most likely tokens are sent with each.
    pub alternatives: usize,
}

/// What a generation sends.
#[derive(Debug)]
pub enum Event {
    /// Generation begins after these tokens.
    Started {
        /// Index of the completion.
        index: usize,
        /// The prompt's tokens.
        prompt: Vec<u32>,
    },
    /// A token was sampled.
    Token {
        /// Index of the completion.
        index: usize,
        /// The token.
        id: u32,
        /// The text that it completes, which may be empty.
        text: String,
        /// Natural logarithm of its probability under the model.
        logprob: f32,
        /// The most likely tokens, the likeliest first.
        alternatives: Vec<Alternative>,
        /// Set with the last token.
        finished: Option<FinishReason>,
    },
    /// It ends here: with an error, or before its first token.
    Ended {
        /// Index of the completion.
        index: usize,
        /// Why it could not go on.
        error: Option<Error>,
    },
}

/// A completion that is being generated.
pub struct Generation<'m> {
    loaded: &'m Loaded,
    sequence: DecodeBatch<'m>,
    builder: CompletionBuilder<'m>,
    rng: ChaCha8Rng,
    request: Request,
    events: mpsc::Sender<Event>,
}

/// What a turn came to.
#[derive(PartialEq)]
pub enum Turn {
    /// A token was generated.
    Token,
    /// Its reader has not read what was sent before.
    Waiting,
    /// It has ended.
    Ended,
}

impl<'m> Generation<'m> {
    /// Begins a completion; an empty or refused prompt ends it at once, with a message to its reader.
    pub fn begin(loaded: &'m Loaded, request: Request, events: mpsc::Sender<Event>) -> Option<Self> {
        let (index, nothing) = (request.index, request.options.max_new_tokens == 0);
        match Self::new(loaded, request, events.clone()) {
            Ok((generation, prompt)) => {
                // The channel has room for the first event of every completion.
                let sent = events.try_send(Event::Started { index, prompt });
                if nothing {
                    let _ = events.try_send(Event::Ended { index, error: None });
                }
                (sent.is_ok() && !nothing).then_some(generation)
            }
            Err(error) => {
                let error = Some(Error::new(ErrorKind::Text, error));
                let _ = events.try_send(Event::Ended { index, error });
                None
            }
        }
    }

    fn new(loaded: &'m Loaded, mut request: Request, events: mpsc::Sender<Event>) -> Result<(Self, Vec<u32>)> {
        request.options.sampling.validate()?;
        let prompt = prompt_ids(loaded, &request)?;
        if let Prompt::Chat(_) = request.prompt {
            let room = loaded.checkpoint.model.context - prompt.len();
            request.options.max_new_tokens = request.options.max_new_tokens.min(room);
        }
        let mut sequence = loaded.generator.sequence()?;
        prompt.iter().for_each(|&id| sequence.push(&[id]));
        let tokenizer = &loaded.checkpoint.tokenizer;
        let criteria = StopCriteria::new(&request.options, &loaded.generator, tokenizer);
        let generation = Self {
            loaded,
            sequence,
            builder: CompletionBuilder::new(tokenizer, &criteria),
            rng: sample_rng(request.options.seed, request.sample),
            request,
            events,
        };
        Ok((generation, prompt))
    }

    /// Bytes of its keys and values.
    pub fn cache_bytes(&self) -> f64 {
        memory::kv_cache_bytes(&self.loaded.checkpoint.model)
    }

    /// Generates the next token, unless its reader is gone or behind.
    pub fn turn(&mut self) -> Turn {
        let place = match self.events.clone().try_reserve_owned() {
            Ok(place) => place,
            Err(mpsc::error::TrySendError::Full(_)) => return Turn::Waiting,
            Err(mpsc::error::TrySendError::Closed(_)) => return Turn::Ended,
        };
        match self.next_token() {
            Ok(event) => {
                place.send(event);
                match self.builder.is_finished() {
                    true => Turn::Ended,
                    false => Turn::Token,
                }
            }
            Err(error) => {
                place.send(Event::Ended {
                    index: self.request.index,
                    error: Some(Error::new(ErrorKind::Compute, error)),
                });
                Turn::Ended
            }
        }
    }

    fn next_token(&mut self) -> Result<Event> {
        let logits = self.sequence.next_logits()?;
        let sampling = &self.request.options.sampling;
        let context = self.sequence.window(0);
        let choice = self
            .loaded
            .generator
            .sample(sampling, &logits, context, &mut self.rng)?;
        self.sequence.push(&[choice.id]);
        Ok(Event::Token {
            index: self.request.index,
            id: choice.id,
            text: self.builder.push(choice)?,
            logprob: choice.logprob,
            alternatives: most_likely(&logits, self.request.alternatives),
            finished: self.builder.completion().finish_reason,
        })
    }
}

/// The tokens of a prompt.
///
/// # Errors
/// A text that cannot be encoded, an id outside the vocabulary, or no token.
fn prompt_ids(loaded: &Loaded, request: &Request) -> Result<Vec<u32>> {
    let checkpoint = &loaded.checkpoint;
    let ids = match &request.prompt {
        Prompt::Chat(messages) => {
            let template = checkpoint.chat_template.as_ref();
            let template = template.context("the model has no chat template")?;
            let context = checkpoint.model.context;
            let reserve = request.options.max_new_tokens.min(context / 4);
            fit(template, &checkpoint.tokenizer, messages, context, reserve)?.ids
        }
        Prompt::Text(text) if text.is_empty() => checkpoint.default_prompt(),
        Prompt::Text(text) => checkpoint.tokenizer.encode_with(text, &SpecialTokens::Text.into())?,
        Prompt::Ids(ids) => ids.clone(),
    };
    let vocabulary = checkpoint.model.vocab_size;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
        anyhow::bail!("prompt: token {id} is not in the model's vocabulary of {vocabulary}");
    }
    ensure!(
        !ids.is_empty(),
        "prompt: the tokenizer leaves nothing of it; give another one"
    );
    Ok(ids)
}

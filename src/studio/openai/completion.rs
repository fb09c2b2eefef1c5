//! From events of generations to OpenAI's objects: one for the whole answer, or a chunk a token.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::parameters::Parameters;
use crate::generate::FinishReason;
use crate::generate::sampler::Alternative;
use crate::studio::engine::Event;
use crate::studio::http::answer::Failure;
use crate::tokenizer::Tokenizer;

/// Whose objects an answer has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `/v1/completions`.
    Text,
    /// `/v1/chat/completions`.
    Chat,
}

/// What all objects of an answer begin with.
pub struct Head {
    form: Form,
    id: String,
    created: u64,
    model: String,
}

impl Head {
    /// For an answer of that model, now.
    pub fn new(model: String, form: Form) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let kind = match form {
            Form::Text => "cmpl",
            Form::Chat => "chatcmpl",
        };
        Self {
            form,
            id: format!("{kind}-{:x}", now.as_nanos()),
            created: now.as_secs(),
            model,
        }
    }

    /// The object of a whole answer, or of a chunk of it.
    fn object(&self, choices: Value, whole: bool) -> Map<String, Value> {
        let name = match (self.form, whole) {
            (Form::Text, _) => "text_completion",
            (Form::Chat, true) => "chat.completion",
            (Form::Chat, false) => "chat.completion.chunk",
        };
        let object = json!({
            "id": self.id, "object": name, "created": self.created, "model": self.model, "choices": choices,
        });
        match object {
            Value::Object(object) => object,
            _ => Map::new(), // it is an object
        }
    }
}

/// An answer that grows token by token.
pub struct Answer {
    head: Head,
    tokenizer: Arc<Tokenizer>,
    choices: Vec<Choice>,
    with_logprobs: bool,
    include_usage: bool,
    prompt_tokens: usize,
    completion_tokens: usize,
}

#[derive(Clone, Default)]
struct Choice {
    text: String,
    finish_reason: Option<FinishReason>,
    logprobs: Logprobs,
    /// Characters of the prompt and of the tokens so far.
    offset: usize,
    /// Whether a chunk of it was made.
    begun: bool,
}

#[derive(Clone, Default)]
struct Logprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<usize>,
}

impl Answer {
    /// An empty answer.
    pub fn new(head: Head, tokenizer: Arc<Tokenizer>, parameters: &Parameters) -> Self {
        Self {
            head,
            tokenizer,
            choices: vec![Choice::default(); parameters.completions()],
            with_logprobs: parameters.logprobs.is_some(),
            include_usage: parameters.include_usage,
            prompt_tokens: 0,
            completion_tokens: 0,
        }
    }

    /// Adds an event, and returns the chunk that a stream sends for it.
    ///
    /// # Errors
    /// The generation failed.
    pub fn add(&mut self, event: Event) -> Result<Option<Value>, Failure> {
        match event {
            Event::Started { index, prompt } => {
                self.prompt_tokens += prompt.len();
                let text = self.tokenizer.decode(&prompt).unwrap_or_default();
                self.choices[index].offset = text.chars().count();
                Ok(None)
            }
            Event::Ended { error: Some(error), .. } => Err(error.into()),
            Event::Ended { index, error: None } => {
                self.choices[index].finish_reason = Some(FinishReason::Length);
                Ok(Some(self.chunk(index, "", None)))
            }
            Event::Token {
                index,
                id,
                text,
                logprob,
                alternatives,
                finished,
            } => {
                self.completion_tokens += 1;
                let token = self.add_logprob(index, id, logprob, &alternatives);
                let choice = &mut self.choices[index];
                choice.text += &text;
                choice.finish_reason = finished;
                Ok(Some(self.chunk(index, &text, token)))
            }
        }
    }

    /// Adds a token's log-probabilities, and returns those of this token alone.
    fn add_logprob(&mut self, index: usize, id: u32, logprob: f32, alternatives: &[Alternative]) -> Option<Value> {
        if !self.with_logprobs {
            return None;
        }
        let token = token_text(&self.tokenizer, id);
        let top: Map<String, Value> = alternatives
            .iter()
            .map(|other| (token_text(&self.tokenizer, other.id), other.logprob.into()))
            .collect();
        let choice = &mut self.choices[index];
        let offset = choice.offset;
        choice.offset += self.tokenizer.decode(&[id]).map_or(0, |text| text.chars().count());
        let one = Logprobs {
            tokens: vec![token],
            token_logprobs: vec![logprob],
            top_logprobs: vec![top.into()],
            text_offset: vec![offset],
        };
        let shown = one.json();
        choice.logprobs.extend(one);
        Some(shown)
    }

    fn chunk(&mut self, index: usize, text: &str, logprobs: Option<Value>) -> Value {
        let begun = std::mem::replace(&mut self.choices[index].begun, true);
        let reason = finish_reason(self.choices[index].finish_reason);
        let choice = match (self.head.form, begun) {
            (Form::Text, _) => json!({"text": text, "index": index, "logprobs": logprobs, "finish_reason": reason}),
            (Form::Chat, false) => {
                json!({"delta": {"role": "assistant", "content": text}, "index": index, "finish_reason": reason})
            }
            (Form::Chat, true) => json!({"delta": {"content": text}, "index": index, "finish_reason": reason}),
        };
        self.head.object(json!([choice]), false).into()
    }

    /// The chunk with the number of tokens, where it was asked for.
    pub fn usage_chunk(&self) -> Option<Value> {
        self.include_usage.then(|| {
            let mut object = self.head.object(json!([]), false);
            object.insert("usage".into(), self.usage());
            object.into()
        })
    }

    fn usage(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        })
    }

    /// The whole answer.
    pub fn whole(&self) -> Value {
        let choice = |(index, choice): (usize, &Choice)| {
            let reason = finish_reason(choice.finish_reason);
            let logprobs = self.with_logprobs.then(|| choice.logprobs.json());
            match self.head.form {
                Form::Text => {
                    json!({"text": choice.text, "index": index, "logprobs": logprobs, "finish_reason": reason})
                }
                Form::Chat => json!({
                    "message": {"role": "assistant", "content": choice.text}, "index": index, "finish_reason": reason,
                }),
            }
        };
        let choices: Vec<Value> = self.choices.iter().enumerate().map(choice).collect();
        let mut object = self.head.object(choices.into(), true);
        object.insert("usage".into(), self.usage());
        object.into()
    }
}

impl Logprobs {
    fn extend(&mut self, other: Self) {
        self.tokens.extend(other.tokens);
        self.token_logprobs.extend(other.token_logprobs);
        self.top_logprobs.extend(other.top_logprobs);
        self.text_offset.extend(other.text_offset);
    }

    fn json(&self) -> Value {
        json!({
            "tokens": self.tokens, "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs, "text_offset": self.text_offset,
        })
    }
}

fn finish_reason(reason: Option<FinishReason>) -> Option<&'static str> {
    reason.map(|reason| match reason {
        FinishReason::Length => "length",
        FinishReason::Stop | FinishReason::Eos | FinishReason::Cancelled => "stop",
    })
}

/// A token as text; as `bytes:\xNN` where it is no whole character, as OpenAI writes it.
pub fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let hex = error.as_bytes().iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", hex.collect::<String>())
        }
    }
}

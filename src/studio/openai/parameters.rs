//! The parameters of a completion, checked one by one: what is wrong is named.

use serde_json::{Map, Value};

use crate::generate::CompletionOptions;
use crate::generate::sampler::Sampling;
use crate::studio::engine::{Prompt, Request};
use crate::studio::http::answer::Failure;
use crate::tokenizer::chat::Message;

/// Longest prompt in bytes, and in ids: the model looks at the last tokens that its context holds.
pub const PROMPT_BYTES: usize = 1 << 18;
const PROMPT_IDS: usize = 1 << 16;

/// Most tokens of a completion.
pub const MAX_TOKENS: u64 = 1 << 16;

/// Most completions of a request, over all its prompts.
const COMPLETIONS: usize = 16;

/// Most alternatives for each token.
const LOGPROBS: u64 = 20;

/// Most stop strings, and bytes of each.
const STOPS: usize = 16;
const STOP_BYTES: usize = 1024;

/// Parameters that would change the text and are not supported, with the values at which they do nothing.
const WITHOUT_EFFECT: [(&str, &[&str]); 6] = [
    ("best_of", &["1"]),
    ("echo", &["false"]),
    ("frequency_penalty", &["0", "0.0"]),
    ("presence_penalty", &["0", "0.0"]),
    ("logit_bias", &["{}"]),
    ("suffix", &["\"\""]),
];

/// A completion's parameters.
pub struct Parameters {
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether a stream ends with the number of tokens.
    pub include_usage: bool,
    /// Alternatives for each token; None for no log-probabilities at all.
    pub logprobs: Option<usize>,
    /// Completions of each prompt.
    n: usize,
    prompts: Vec<Prompt>,
    options: CompletionOptions,
}

impl Parameters {
    /// Those of the body of a request to continue texts.
    ///
    /// # Errors
    /// One that is of the wrong type or out of its range, or not supported.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, Failure> {
        Self::with_prompts(body, prompts(body)?, integer(body, "max_tokens", 16, 0..=MAX_TOKENS)?)
    }

    /// Those of the body of a request to answer in a conversation. An answer ends with its turn, or with the context.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_chat(body: &Map<String, Value>) -> Result<Self, Failure> {
        for name in ["logprobs", "top_logprobs", "tools", "functions", "response_format"] {
            if body
                .get(name)
                .is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)))
            {
                return Err(Failure::param(name, format!("{name} is not supported; leave it out")));
            }
        }
        let messages = body.get("messages").filter(|messages| messages.is_array());
        let messages = messages.ok_or_else(|| Failure::param("messages", "messages must be an array"))?;
        let messages = Message::list(messages).map_err(|error| Failure::param("messages", format!("{error:#}")))?;
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        if messages.is_empty() || bytes > PROMPT_BYTES {
            let message = format!("messages must be one or more, of at most {PROMPT_BYTES} bytes in all");
            return Err(Failure::param("messages", message));
        }
        let name = match body.get("max_completion_tokens") {
            None | Some(Value::Null) => "max_tokens",
            Some(_) => "max_completion_tokens",
        };
        let most = integer(body, name, MAX_TOKENS, 0..=MAX_TOKENS)?;
        Self::with_prompts(body, vec![Prompt::Chat(messages)], most)
    }

    fn with_prompts(body: &Map<String, Value>, prompts: Vec<Prompt>, max_tokens: u64) -> Result<Self, Failure> {
        for (name, values) in WITHOUT_EFFECT {
            let value = body.get(name).filter(|value| !value.is_null());
            if value.is_some_and(|value| !values.contains(&value.to_string().as_str())) {
                return Err(Failure::param(name, format!("{name} is not supported; leave it out")));
            }
        }
        let n = integer(body, "n", 1, 1..=COMPLETIONS as u64)? as usize;
        if prompts.len() * n > COMPLETIONS {
            let message = format!(
                "prompts times n is {}; it can be at most {COMPLETIONS}",
                prompts.len() * n
            );
            return Err(Failure::param("n", message));
        }
        let logprobs = match body.get("logprobs") {
            None | Some(Value::Null | Value::Bool(false)) => None,
            Some(_) => Some(integer(body, "logprobs", 0, 0..=LOGPROBS)? as usize),
        };
        Ok(Self {
            stream: boolean(body, "stream")?,
            include_usage: match body.get("stream_options") {
                None | Some(Value::Null) => false,
                Some(Value::Object(options)) => boolean(options, "include_usage")?,
                Some(_) => return Err(Failure::param("stream_options", "stream_options must be an object")),
            },
            logprobs,
            n,
            prompts,
            options: CompletionOptions {
                max_new_tokens: max_tokens as usize,
                sampling: sampling(body)?,
                stop: stops(body)?,
                ignore_eos: boolean(body, "ignore_eos")?,
                seed: match body.get("seed") {
                    None | Some(Value::Null) => random_seed(),
                    // Clients send negative seeds too.
                    Some(Value::Number(seed)) if seed.is_i64() => seed.as_i64().unwrap_or_default().cast_unsigned(),
                    Some(_) => integer(body, "seed", 0, 0..=u64::MAX)?,
                },
                ..CompletionOptions::default()
            },
        })
    }

    /// A request for each completion: those of the first prompt, then those of the second.
    pub fn requests(&self) -> Vec<Request> {
        let of_prompt = |(number, prompt): (usize, &Prompt)| {
            let (prompt, number) = (prompt.clone(), number * self.n);
            (0..self.n).map(move |sample| Request {
                prompt: prompt.clone(),
                options: self.options.clone(),
                sample: sample as u64,
                index: number + sample,
                alternatives: self.logprobs.unwrap_or(0),
            })
        };
        self.prompts.iter().enumerate().flat_map(of_prompt).collect()
    }

    /// Number of completions.
    pub fn completions(&self) -> usize {
        self.prompts.len() * self.n
    }
}

/// The name of the model, if there is one.
///
/// # Errors
/// It is no text.
pub fn model(body: &Map<String, Value>) -> Result<Option<&str>, Failure> {
    match body.get("model") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => Ok(Some(id)),
        Some(_) => Err(Failure::param("model", "model must be a text")),
    }
}

/// The sampling of a request: OpenAI's `temperature` and `top_p`, and those that other servers have too.
///
/// # Errors
/// A value of the wrong type or out of its range.
pub fn sampling(body: &Map<String, Value>) -> Result<Sampling, Failure> {
    Ok(Sampling {
        repetition_penalty: number(body, "repetition_penalty", 1.0, |value| value > 0.0, "over 0")?,
        temperature: number(
            body,
            "temperature",
            1.0,
            |value| (0.0..=100.0).contains(&value),
            "from 0 to 100",
        )?,
        top_k: integer(body, "top_k", 0, 0..=u64::from(u32::MAX))? as usize,
        top_p: number(
            body,
            "top_p",
            1.0,
            |value| value > 0.0 && value <= 1.0,
            "over 0 and at most 1",
        )?,
        min_p: number(
            body,
            "min_p",
            0.0,
            |value| (0.0..1.0).contains(&value),
            "from 0 up to, not including, 1",
        )?,
    })
}

/// A seed of the kind that `generate` takes by itself.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    u64::from(RandomState::new().hash_one(0) as u32)
}

/// A whole number in a range.
///
/// # Errors
/// Another value.
pub fn integer(
    body: &Map<String, Value>,
    name: &str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<u64, Failure> {
    let value = match body.get(name) {
        None | Some(Value::Null) => Some(default),
        Some(value) => value.as_u64().filter(|value| range.contains(value)),
    };
    value.ok_or_else(|| {
        let (least, most) = range.into_inner();
        Failure::param(name, format!("{name} must be a whole number from {least} to {most}"))
    })
}

fn number(
    body: &Map<String, Value>,
    name: &str,
    default: f32,
    fits: impl Fn(f32) -> bool,
    range: &str,
) -> Result<f32, Failure> {
    let value = match body.get(name) {
        None | Some(Value::Null) => Some(default),
        Some(value) => value
            .as_f64()
            .map(|value| value as f32)
            .filter(|value| value.is_finite() && fits(*value)),
    };
    value.ok_or_else(|| Failure::param(name, format!("{name} must be a number {range}")))
}

fn boolean(body: &Map<String, Value>, name: &str) -> Result<bool, Failure> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(Failure::param(name, format!("{name} must be true or false"))),
    }
}

fn stops(body: &Map<String, Value>) -> Result<Vec<String>, Failure> {
    let wrong = || {
        let message = format!(
            "the parameter stop must be a text or up to {STOPS} texts, none empty or longer than {STOP_BYTES} bytes"
        );
        Failure::param("stop", message)
    };
    let stops: Vec<String> = match body.get("stop") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(stops)) => {
            let texts = stops.iter().map(|stop| stop.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(wrong)?
        }
        Some(_) => return Err(wrong()),
    };
    let fits = stops.len() <= STOPS && stops.iter().all(|stop| (1..=STOP_BYTES).contains(&stop.len()));
    fits.then_some(stops).ok_or_else(wrong)
}

/// A text, token ids, or a list of either.
fn prompts(body: &Map<String, Value>) -> Result<Vec<Prompt>, Failure> {
    let prompts = match body.get("prompt") {
        None | Some(Value::Null) => vec![Prompt::Text(String::new())],
        Some(Value::Array(items)) if items.iter().any(|item| item.is_string() || item.is_array()) => {
            items.iter().map(prompt).collect::<Result<_, _>>()?
        }
        Some(Value::Array(items)) if items.is_empty() => {
            return Err(Failure::param("prompt", "prompt is an empty list; give a text"));
        }
        Some(one) => vec![prompt(one)?],
    };
    Ok(prompts)
}

/// A prompt: a text or token ids.
///
/// # Errors
/// Another value, or one that is too long.
pub fn prompt(value: &Value) -> Result<Prompt, Failure> {
    let wrong = |message: &str| Failure::param("prompt", message);
    match value {
        Value::String(text) if text.len() > PROMPT_BYTES => Err(wrong(&format!(
            "prompt is longer than {PROMPT_BYTES} bytes; send its end"
        ))),
        Value::String(text) => Ok(Prompt::Text(text.clone())),
        Value::Array(ids) if ids.len() > PROMPT_IDS => Err(wrong(&format!(
            "prompt has more than {PROMPT_IDS} tokens; send its end"
        ))),
        Value::Array(ids) => {
            let ids = ids
                .iter()
                .map(|id| u32::try_from(id.as_u64()?).ok())
                .collect::<Option<_>>();
            Ok(Prompt::Ids(
                ids.ok_or_else(|| wrong("prompt must be a text or token ids"))?,
            ))
        }
        _ => Err(wrong("prompt must be a text or token ids")),
    }
}

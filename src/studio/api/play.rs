//! Tokens as they are sampled, each with what else it could have been.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::BODY_BYTES;
use crate::generate::CompletionOptions;
use crate::studio::Studio;
use crate::studio::engine::{self, Event};
use crate::studio::http::answer::{self, Failure};
use crate::studio::http::body;
use crate::studio::openai;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::pieces::shown;

/// Most tokens of a text in the playground.
const TOKENS: u64 = 512;

/// Alternatives that are sent with a token. Of a vocabulary that is not larger they are all.
const ALTERNATIVES: usize = 128;

/// `POST /api/generate` with `model`, `prompt` (a text or ids), `max_tokens`, `seed` and the sampling: a stream of tokens.
///
/// # Errors
/// As a completion's.
pub async fn generate(State(studio): State<Arc<Studio>>, request: Request) -> Result<Response, Failure> {
    let body = body::object(request.into_body(), BODY_BYTES).await?;
    let (_, folder) = studio.find_model(openai::model_name(&body)?)?;
    let request = engine::Request {
        prompt: openai::prompt(body.get("prompt").unwrap_or(&Value::String(String::new())))?,
        options: CompletionOptions {
            max_new_tokens: openai::integer(&body, "max_tokens", 64, 0..=TOKENS)? as usize,
            sampling: openai::sampling(&body)?,
            seed: openai::integer(&body, "seed", 0, 0..=u64::MAX)?,
            ..CompletionOptions::default()
        },
        sample: 0,
        index: 0,
        alternatives: ALTERNATIVES,
    };
    let tokenizer = studio.tokenizer(&folder).await?;
    let mut events = studio.generate(&folder, vec![request])?;
    let (lines, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if lines.send(describe(&tokenizer, event).to_string()).await.is_err() {
                return; // the page went away; dropping `events` ends the generation
            }
        }
    });
    Ok(answer::events(receiver))
}

fn describe(tokenizer: &Tokenizer, event: Event) -> Value {
    let text = |id: u32| shown(&tokenizer.token_bytes(id).unwrap_or_default());
    match event {
        Event::Started { prompt, .. } => {
            let tokens: Vec<Value> = prompt.iter().map(|&id| json!({"id": id, "text": text(id)})).collect();
            json!({"prompt": tokens, "vocabulary": tokenizer.vocab_size()})
        }
        Event::Token {
            id,
            logprob,
            alternatives,
            finished,
            text: new,
            ..
        } => {
            let alternatives: Vec<Value> = alternatives
                .iter()
                .map(|other| json!([other.id, text(other.id), other.logprob]))
                .collect();
            json!({
                "id": id, "text": text(id), "new": new, "logprob": logprob, "alternatives": alternatives,
                "finished": finished,
            })
        }
        Event::Ended { error: Some(error), .. } => Failure::from(error).json(),
        Event::Ended { error: None, .. } => json!({"finished": "length"}),
    }
}

//! The endpoints of OpenAI's interface: models, completions, and chat, for models that have a chat template.

mod completion;
mod parameters;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Studio;
use super::catalog::Entry;
use super::engine::{Busy, Event, Loaded};
use super::http::answer::{self, Failure};
use super::http::body;
use completion::{Answer, Form, Head};
use parameters::Parameters;
pub use parameters::{integer, model as model_name, prompt, sampling};

/// Longest body of a request. Its prompts are bounded on their own.
const BODY_BYTES: usize = 1 << 20;

/// `GET /v1/models`.
pub async fn models(State(studio): State<Arc<Studio>>) -> Response {
    let models: Vec<Value> = studio.catalog.list().iter().map(describe).collect();
    answer::ok(&json!({"object": "list", "data": models}))
}

/// `GET /v1/models/{id}`.
pub async fn model(State(studio): State<Arc<Studio>>, Path(id): Path<String>) -> Response {
    let found = studio.catalog.list().into_iter().find(|entry| entry.id == id);
    match found {
        Some(entry) => answer::ok(&describe(&entry)),
        None => Failure::no_model(&id).into_response(),
    }
}

fn describe(entry: &Entry) -> Value {
    json!({"id": entry.id, "object": "model", "created": entry.created, "owned_by": "mlx-gpt"})
}

/// `POST /v1/chat/completions`.
///
/// # Errors
/// As [`completions`]; messages that are none, a model without a chat template.
pub async fn chat(State(studio): State<Arc<Studio>>, request: Request) -> Result<Response, Failure> {
    complete(&studio, request.into_body(), Form::Chat).await
}

/// `POST /v1/completions`.
///
/// # Errors
/// A body or a parameter that is wrong, an unknown model, too many requests, a model that cannot be loaded.
pub async fn completions(State(studio): State<Arc<Studio>>, request: Request) -> Result<Response, Failure> {
    complete(&studio, request.into_body(), Form::Text).await
}

async fn complete(studio: &Studio, body: Body, form: Form) -> Result<Response, Failure> {
    let request = body::object(body, BODY_BYTES).await?;
    let (id, folder) = studio.find_model(model_name(&request)?)?;
    let parameters = match form {
        Form::Text => Parameters::parse(&request)?,
        Form::Chat => Parameters::parse_chat(&request)?,
    };
    if form == Form::Chat {
        let chats = |loaded: &Loaded| Ok(loaded.checkpoint.chat_template.is_some());
        if !studio.look(&folder, chats).await? {
            let message = "the model has no chat template, so that it can't tell who says what; use /v1/completions";
            return Err(Failure::param("model", message).with_code("no_chat_template"));
        }
    }
    // Token ids become text in this thread.
    let tokenizer = studio.tokenizer(&folder).await?;
    let events = studio.generate(&folder, parameters.requests())?;
    let answer = Answer::new(Head::new(id, form), tokenizer, &parameters);
    match parameters.stream {
        true => Ok(stream(answer, events)),
        false => collect(answer, events).await,
    }
}

impl From<Busy> for Failure {
    fn from(Busy: Busy) -> Self {
        let message = format!(
            "{} completions are being generated already; try again when some have ended",
            super::engine::MAX_COMPLETIONS
        );
        Self::new(StatusCode::TOO_MANY_REQUESTS, message).with_code("too_many_completions")
    }
}

async fn collect(mut answer: Answer, mut events: mpsc::Receiver<Event>) -> Result<Response, Failure> {
    while let Some(event) = events.recv().await {
        answer.add(event)?;
    }
    Ok(answer::ok(&answer.whole()))
}

/// Sends a chunk for each token; the first failure ends the stream with an error.
fn stream(mut answer: Answer, mut events: mpsc::Receiver<Event>) -> Response {
    let (lines, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let chunk = match answer.add(event) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => continue,
                Err(failure) => {
                    let _ = lines.send(failure.json().to_string()).await; // its reader may be gone
                    return;
                }
            };
            if lines.send(chunk.to_string()).await.is_err() {
                return; // the client went away; dropping `events` ends the generation
            }
        }
        for last in answer
            .usage_chunk()
            .map(|chunk| chunk.to_string())
            .into_iter()
            .chain(["[DONE]".into()])
        {
            let _ = lines.send(last).await;
        }
    });
    answer::events(receiver)
}

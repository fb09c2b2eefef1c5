//! Answers: JSON, errors in the shape of OpenAI's, and streams of server-sent events.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind};

/// A request that is refused or fails.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    message: String,
    /// The parameter that is wrong.
    param: Option<String>,
    code: Option<&'static str>,
}

impl Failure {
    /// A failure with that status and message.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
            code: None,
        }
    }

    /// A request that is wrong.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A parameter that is wrong.
    pub fn param(name: &str, message: impl Into<String>) -> Self {
        Self {
            param: Some(name.to_owned()),
            ..Self::bad(message)
        }
    }

    /// A model that there is not.
    pub fn no_model(id: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: Some("model_not_found"),
            ..Self::param("model", format!("there is no model {id:?}; /v1/models lists them"))
        }
    }

    /// The same for something that there is not.
    pub fn not_found(self) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            ..self
        }
    }

    /// The same with a code for programs.
    pub fn with_code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// The error as JSON.
    pub fn json(&self) -> Value {
        let kind = match self.status.as_u16() {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl From<Error> for Failure {
    /// 400 where the request is to blame, 500 where the model or MLX is.
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Text | ErrorKind::Options => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Checkpoint | ErrorKind::Compute => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        answer(self.status, &self.json())
    }
}

/// JSON with that status.
pub fn answer(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// JSON.
pub fn ok(value: &Value) -> Response {
    answer(StatusCode::OK, value)
}

/// A stream of server-sent events, which ends with its sender.
pub fn events(lines: mpsc::Receiver<String>) -> Response {
    let mut response = Response::new(Body::from_stream(Events(lines)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

struct Events(mpsc::Receiver<String>);

impl Stream for Events {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let line = self.0.poll_recv(context);
        line.map(|line| line.map(|line| Ok(Bytes::from(format!("data: {line}\n\n")))))
    }
}

//! Bodies of bounded size, read within a bounded time, as JSON.

use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::answer::Failure;

/// A client that sends a body more slowly than this is refused.
const TIME: Duration = Duration::from_secs(30);

/// Reads a body of at most `limit` bytes, which must be a JSON object.
///
/// # Errors
/// 413 for a longer body, 408 for one that takes too long, 400 for one that is no JSON object.
pub async fn object(body: Body, limit: usize) -> Result<Map<String, Value>, Failure> {
    let too_long = || {
        let message = format!("the body is incomplete, or longer than {limit} bytes; send less");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    // A body that says that it is too long is not read.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long());
    }
    let read = tokio::time::timeout(TIME, to_bytes(body, limit)).await;
    let bytes = match read {
        Err(_) => {
            return Err(Failure::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in 30 seconds",
            ));
        }
        Ok(Err(_)) => return Err(too_long()),
        Ok(Ok(bytes)) => bytes,
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Failure::bad("the body is JSON, but no object")),
        Err(error) => Err(Failure::bad(format!("the body is no JSON: {error}"))),
    }
}

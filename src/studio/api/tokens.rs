//! Texts as tokenizers cut them, and how byte-pair encoding gets there.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::{BODY_BYTES, text};
use crate::config::SpecialTokens;
use crate::studio::Studio;
use crate::studio::http::answer::{self, Failure};
use crate::studio::http::body;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::pieces::{pieces, shown};

/// Longest text that is cut, and whose merges are replayed.
const TEXT_BYTES: usize = 1 << 14;
const MERGED_BYTES: usize = 512;

/// Tokenizers side by side.
const TOKENIZERS: usize = 4;

/// `POST /api/tokens` with `text` and `tokenizers`, a list of gpt2, cl100k and models: the tokens of each.
///
/// # Errors
/// An unknown tokenizer, or a text that is too long. One that cannot encode the text says so in its place.
pub async fn tokens(State(studio): State<Arc<Studio>>, request: Request) -> Result<Response, Failure> {
    let body = body::object(request.into_body(), BODY_BYTES).await?;
    let text = text(&body, "text", TEXT_BYTES)?.to_owned();
    let names = body.get("tokenizers").and_then(Value::as_array);
    let names = names.filter(|names| (1..=TOKENIZERS).contains(&names.len()));
    let names: Option<Vec<&str>> = names.and_then(|names| names.iter().map(Value::as_str).collect());
    let wrong = || {
        Failure::param(
            "tokenizers",
            format!("tokenizers must be a list of 1 to {TOKENIZERS} names"),
        )
    };
    let mut sources = Vec::new();
    for name in names.ok_or_else(wrong)? {
        sources.push((name.to_owned(), Source::find(&studio, name)?));
    }
    aside(move || {
        sources
            .into_iter()
            .map(|(name, source)| cut(&name, source, &text))
            .collect()
    })
    .await
}

/// `POST /api/merges` with `text` and `tokenizer`: the merges of each chunk of it, one by one.
///
/// # Errors
/// An unknown tokenizer, one without merges, or a text that is too long.
pub async fn merges(State(studio): State<Arc<Studio>>, request: Request) -> Result<Response, Failure> {
    let body = body::object(request.into_body(), BODY_BYTES).await?;
    let merged = text(&body, "text", MERGED_BYTES)?.to_owned();
    let source = Source::find(&studio, text(&body, "tokenizer", 512)?)?;
    aside(move || match source.open() {
        Ok(Tokenizer::Bpe(bpe)) => {
            let piece = |&id: &u32| json!([id, shown(bpe.token_bytes(id).unwrap_or_default())]);
            let state = |ids: &Vec<u32>| ids.iter().map(piece).collect::<Value>();
            match bpe.merge_steps(&merged) {
                Ok(chunks) => {
                    let chunks = chunks.iter().map(|steps| steps.iter().map(state).collect::<Value>());
                    json!({"chunks": chunks.collect::<Vec<_>>()})
                }
                Err(error) => json!({"failed": format!("{error:#}")}),
            }
        }
        Ok(_) => json!({"failed": "this tokenizer has no merges of bytes"}),
        Err(error) => json!({"failed": format!("{error:#}")}),
    })
    .await
}

/// Where a tokenizer comes from.
enum Source {
    Gpt2,
    Cl100k,
    Model(PathBuf),
}

impl Source {
    fn find(studio: &Studio, name: &str) -> Result<Self, Failure> {
        match name {
            "gpt2" => Ok(Self::Gpt2),
            "cl100k" => Ok(Self::Cl100k),
            model => Ok(Self::Model(studio.find_model(Some(model))?.1)),
        }
    }

    fn open(self) -> Result<Tokenizer> {
        match self {
            Self::Gpt2 => Tokenizer::gpt2(),
            Self::Cl100k => Tokenizer::cl100k(),
            Self::Model(folder) => Tokenizer::load(&crate::checkpoint::runs::find_checkpoint(Some(&folder))?),
        }
    }
}

/// Works in a thread that no other request waits for.
async fn aside(work: impl FnOnce() -> Value + Send + 'static) -> Result<Response, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(answer::ok(&done.map_err(|error| Failure::bad(error.to_string()))?))
}

fn cut(name: &str, source: Source, text: &str) -> Value {
    let cut = || -> Result<Value> {
        let tokenizer = source.open()?;
        let pieces = pieces(&tokenizer, text, &SpecialTokens::Allow.into())?;
        let tokens = pieces.iter().map(|piece| {
            json!({
                "id": piece.id, "text": piece.shown, "bytes": piece.hex(), "code_points": piece.code_points,
                "special": piece.is_special,
            })
        });
        Ok(json!({
            "name": name, "vocabulary": tokenizer.vocab_size(), "tokens": tokens.collect::<Vec<_>>(),
            "merges": matches!(tokenizer, Tokenizer::Bpe(_)),
        }))
    };
    cut().unwrap_or_else(|error| json!({"name": name, "failed": format!("{error:#}")}))
}

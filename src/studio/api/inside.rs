//! Inside a model: what each layer reads, attends to, adds, and would already say.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use axum::extract::{Request, State};
use axum::response::Response;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype, ops};
use serde_json::{Map, Value, json};

use super::{BODY_BYTES, text};
use crate::error::{Error, ErrorKind};
use crate::generate::sampler::most_likely;
use crate::model::hooks::replace_position;
use crate::model::{Gpt, Model};
use crate::studio::Studio;
use crate::studio::engine::Loaded;
use crate::studio::http::answer::{self, Failure};
use crate::studio::http::body;
use crate::studio::openai;
use crate::tokenizer::pieces::shown;

/// Most tokens of a text whose attention is shown: a matrix of as many rows has to fit on a page.
pub const TOKENS: usize = 64;

/// Longest text.
pub(super) const TEXT_BYTES: usize = 4096;

/// Tokens that a layer would say, and channels that are shown of its MLP.
const SAID: usize = 5;
const CHANNELS: usize = 8;

/// Decimal places of attention, of which a page shows colours.
const ATTENTION_PLACES: f32 = 10_000.0;

/// `POST /api/inside` with `model` and `text`: the tokens, and by layer and position the norm of the residual stream, what the layer
/// would say, and the strongest channels of its MLP.
///
/// # Errors
/// A model without blocks or that cannot be loaded, a text that it cannot encode or that is too long.
pub async fn inside(State(studio): State<Arc<Studio>>, request: Request) -> Result<Response, Failure> {
    let (body, folder) = asked(&studio, request).await?;
    let text = text(&body, "text", TEXT_BYTES)?.to_owned();
    look(&studio, folder, move |looked| looked.overview(&looked.ids(&text)?)).await
}

/// `POST /api/attention` with `model`, `text` and `layer`: of each head, the weights of each query over the keys.
///
/// # Errors
/// As [`inside`]; a layer that the model does not have.
pub async fn attention(State(studio): State<Arc<Studio>>, request: Request) -> Result<Response, Failure> {
    let (body, folder) = asked(&studio, request).await?;
    let text = text(&body, "text", TEXT_BYTES)?.to_owned();
    let layer = openai::integer(&body, "layer", 0, 0..=1 << 16)?;
    look(&studio, folder, move |looked| {
        looked.attention(&looked.ids(&text)?, layer)
    })
    .await
}

/// `POST /api/patch` with `model`, `text`, `source`, `position` and `source_position`: what the model says after the text when the
/// residual stream before each layer is, at that position, what it is at the other position of the other text.
///
/// # Errors
/// As [`inside`]; positions that the texts do not have.
pub async fn patch(State(studio): State<Arc<Studio>>, request: Request) -> Result<Response, Failure> {
    let (body, folder) = asked(&studio, request).await?;
    let target = text(&body, "text", TEXT_BYTES)?.to_owned();
    let source = text(&body, "source", TEXT_BYTES)?.to_owned();
    let last = TOKENS as u64 - 1;
    let position = openai::integer(&body, "position", 0, 0..=last)? as i32;
    let source_position = openai::integer(&body, "source_position", 0, 0..=last)? as i32;
    look(&studio, folder, move |looked| {
        let (target, source) = (looked.ids(&target)?, looked.ids(&source)?);
        looked.patch(&target, &source, position, source_position)
    })
    .await
}

pub(super) async fn asked(studio: &Studio, request: Request) -> Result<(Map<String, Value>, PathBuf), Failure> {
    let body = body::object(request.into_body(), BODY_BYTES).await?;
    let (_, folder) = studio.find_model(openai::model_name(&body)?)?;
    Ok((body, folder))
}

pub(super) async fn look(
    studio: &Studio,
    folder: PathBuf,
    look: impl FnOnce(Looked) -> Result<Value> + Send + 'static,
) -> Result<Response, Failure> {
    let looked = studio.look(&folder, move |loaded| look(Looked::of(loaded)?));
    Ok(answer::ok(&looked.await?))
}

/// A model that is looked into.
pub(super) struct Looked<'a> {
    loaded: &'a Loaded,
    pub(super) gpt: &'a Gpt,
}

impl<'a> Looked<'a> {
    fn of(loaded: &'a Loaded) -> Result<Self> {
        match &loaded.model {
            Model::Gpt2(gpt) => Ok(Self { loaded, gpt }),
            _ => Err(asker(anyhow::anyhow!(
                "the model is a {}, without blocks to look into; take a later day's or a run's",
                loaded.checkpoint.model.architecture.name()
            ))),
        }
    }

    /// The tokens of a text.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let most = TOKENS.min(self.loaded.checkpoint.model.context);
        let ids = self.loaded.checkpoint.tokenizer.encode(text).map_err(asker)?;
        let fits = || -> Result<()> {
            ensure!(!ids.is_empty(), "the text has no tokens; write some");
            ensure!(
                ids.len() <= most,
                "the text has {} tokens; take at most {most}",
                ids.len()
            );
            Ok(())
        };
        fits().map_err(asker)?;
        Ok(ids)
    }

    /// Tokens of the model's vocabulary.
    pub(super) fn vocabulary(&self) -> usize {
        self.loaded.checkpoint.model.vocab_size
    }

    /// A token as text.
    pub(super) fn text(&self, id: u32) -> String {
        shown(&self.loaded.checkpoint.tokenizer.token_bytes(id).unwrap_or_default())
    }

    /// The most likely tokens of logits `[V]`, with their probabilities.
    fn said(&self, logits: &[f32]) -> Value {
        let said = most_likely(logits, SAID).into_iter();
        said.map(|token| json!([self.text(token.id), token.logprob.exp()]))
            .collect()
    }

    fn overview(&self, ids: &[u32]) -> Result<Value> {
        let layers = self.loaded.checkpoint.model.layers;
        let mut seen = HashMap::new();
        self.gpt.forward_hooked(&array(ids), &mut |name, x| {
            if name.ends_with(".resid_pre") || name.ends_with(".resid_post") || name.ends_with(".mlp.post") {
                seen.insert(name.to_owned(), x.clone());
            }
            Ok(x)
        })?;
        let get = |name: String| seen.get(&name).with_context(|| format!("there is no {name}"));
        // The residual stream before the first layer, and after each.
        let mut streams = vec![get("blocks.0.resid_pre".into())?];
        for layer in 0..layers {
            streams.push(get(format!("blocks.{layer}.resid_post"))?);
        }
        let (mut norms, mut lens) = (Vec::new(), Vec::new());
        for x in streams {
            norms.push(numbers(&x.square()?.sum_axis(-1, None)?.sqrt()?)?); // [T]
            let logits = numbers(&self.gpt.logits(x)?)?; // [T, V]
            let rows = logits.chunks(logits.len() / ids.len());
            lens.push(rows.map(|row| self.said(row)).collect::<Vec<Value>>());
        }
        let mut channels = Vec::new();
        for layer in 0..layers {
            let post = numbers(get(format!("blocks.{layer}.mlp.post"))?)?; // [T, F]
            let rows = post.chunks(post.len() / ids.len());
            channels.push(rows.map(strongest).collect::<Vec<Value>>());
        }
        let tokens: Vec<Value> = ids.iter().map(|&id| json!({"id": id, "text": self.text(id)})).collect();
        Ok(json!({
            "tokens": tokens, "layers": layers, "heads": self.loaded.checkpoint.model.heads,
            "norms": norms, "lens": lens, "channels": channels,
        }))
    }

    fn attention(&self, ids: &[u32], layer: u64) -> Result<Value> {
        let name = format!("blocks.{layer}.attn.pattern");
        let mut pattern = None;
        self.gpt.forward_hooked(&array(ids), &mut |seen, x| {
            if seen == name {
                pattern = Some(x.clone());
            }
            Ok(x)
        })?;
        let layers = self.loaded.checkpoint.model.layers;
        let Some(pattern) = pattern else {
            return Err(asker(anyhow::anyhow!(
                "layer is {layer}; the model has {layers}, from 0 on"
            )));
        };
        let rounded: Vec<f32> = numbers(&pattern)?
            .into_iter()
            .map(|weight| (weight * ATTENTION_PLACES).round() / ATTENTION_PLACES)
            .collect();
        let heads: Vec<Vec<&[f32]>> = rounded
            .chunks(ids.len() * ids.len())
            .map(|head| head.chunks(ids.len()).collect())
            .collect();
        Ok(json!({ "heads": heads }))
    }

    fn patch(&self, target: &[u32], source: &[u32], position: i32, source_position: i32) -> Result<Value> {
        let within = |position: i32, ids: &[u32]| (position as usize) < ids.len();
        if !within(position, target) || !within(source_position, source) {
            let lengths = format!("the texts have {} and {} tokens", target.len(), source.len());
            return Err(asker(anyhow::anyhow!("a position is outside of its text: {lengths}")));
        }
        let mut values = HashMap::new();
        let of_source = self.gpt.forward_hooked(&array(source), &mut |name, x| {
            if name.ends_with(".resid_pre") {
                values.insert(name.to_owned(), x.try_index((.., source_position))?); // [1, C]
            }
            Ok(x)
        })?;
        let plain = last_row(&self.gpt.forward(&array(target), None)?)?;
        let of_source = last_row(&of_source)?;
        let best = |logits: &[f32]| most_likely(logits, 1).first().map_or(0, |token| token.id);
        let (before, instead) = (best(&plain), best(&of_source));
        let share = |logits: &[f32], id: u32| {
            let found = most_likely(logits, logits.len())
                .into_iter()
                .find(|token| token.id == id);
            found.map_or(0.0, |token| token.logprob.exp())
        };
        let mut layers = Vec::new();
        for layer in 0..self.loaded.checkpoint.model.layers {
            let name = format!("blocks.{layer}.resid_pre");
            let Some(value) = values.get(&name) else {
                bail!("there is no {name}")
            };
            let logits = self
                .gpt
                .forward_hooked(&array(target), &mut |seen, x| match seen == name {
                    true => replace_position(&x, position, value),
                    false => Ok(x),
                })?;
            let logits = last_row(&logits)?;
            layers.push(json!({
                "name": name, "said": self.said(&logits),
                "before": share(&logits, before), "instead": share(&logits, instead),
            }));
        }
        Ok(json!({
            "before": {"text": self.text(before), "probability": share(&plain, before), "instead": share(&plain, instead)},
            "instead": {"text": self.text(instead), "probability": share(&of_source, instead)},
            "layers": layers,
        }))
    }
}

/// An error that the request is to blame for.
fn asker(error: anyhow::Error) -> anyhow::Error {
    Error::new(ErrorKind::Text, error).into()
}

/// Token ids as `[1, T]`.
fn array(ids: &[u32]) -> Array {
    Array::from_slice(ids, &[1, ids.len() as i32])
}

/// The numbers of an array of any layout, row-major.
fn numbers(x: &Array) -> Result<Vec<f32>> {
    Ok(ops::reshape(x, &[-1])?.as_dtype(Dtype::Float32)?.to_vec_exact()?)
}

/// The logits after the last token: `[1, T, V]` to `[V]`.
fn last_row(logits: &Array) -> Result<Vec<f32>> {
    numbers(&logits.try_index((.., -1))?)
}

/// The channels of the largest magnitude, with their values.
fn strongest(values: &[f32]) -> Value {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()));
    order.truncate(CHANNELS);
    order
        .into_iter()
        .map(|channel| json!([channel, values[channel]]))
        .collect()
}

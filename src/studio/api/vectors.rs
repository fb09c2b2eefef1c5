//! The vectors of a model's embeddings: which tokens have similar ones, and how similar those of positions are.

use std::sync::Arc;

use anyhow::Result;
use axum::extract::{Request, State};
use axum::response::Response;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};
use serde_json::{Value, json};

use super::inside::{self, Looked, TEXT_BYTES, TOKENS};
use super::text;
use crate::generate::sampler::most_likely;
use crate::lessons::arrays::{principal_plane, rows};
use crate::studio::Studio;
use crate::studio::http::answer::Failure;

/// Neighbours that are shown of a token.
const NEIGHBOURS: usize = 6;

/// What a vector's length is at least taken for, so that one of zeros has no direction instead of NaN.
const SMALLEST: f32 = 1e-12;

/// `POST /api/vectors` with `model` and `text`: of each different token the nearest others by the cosine of their embeddings, all of
/// these in the plane of their two principal components, and the cosines between the embeddings of the first positions.
///
/// # Errors
/// As [`inside::inside`].
pub async fn vectors(State(studio): State<Arc<Studio>>, request: Request) -> Result<Response, Failure> {
    let (body, folder) = inside::asked(&studio, request).await?;
    let text = text(&body, "text", TEXT_BYTES)?.to_owned();
    inside::look(&studio, folder, move |looked| {
        let mut ids = looked.ids(&text)?;
        ids.sort_unstable();
        ids.dedup();
        let table = table(&looked)?;
        let nearest = nearest(&table, &ids)?;
        Ok(json!({
            "tokens": neighbours(&looked, &ids, &nearest), "plane": plane(&looked, &table, &ids, &nearest)?,
            "positions": positions(&looked)?,
        }))
    })
    .await
}

/// Vectors `[N, C]` as directions of length one.
fn directions(vectors: &Array) -> Result<Array> {
    let lengths = vectors.square()?.sum_axis(-1, true)?.sqrt()?;
    Ok(vectors.divide(ops::maximum(lengths, Array::from_f32(SMALLEST))?)?)
}

/// The embedding of the whole vocabulary, `[V, C]`.
fn table(looked: &Looked) -> Result<Array> {
    let ids = ops::arange::<_, u32>(0, looked.vocabulary() as u32, None)?;
    Ok(looked.gpt.embeddings().wte().forward(&ids)?)
}

/// Of each token, the nearest others: ids and cosines, most similar first.
fn nearest(table: &Array, ids: &[u32]) -> Result<Vec<Vec<(u32, f32)>>> {
    let directions = directions(table)?; // [V, C]
    let own = directions.take_axis(Array::from_slice(ids, &[ids.len() as i32]), 0)?; // [N, C]
    let cosines = rows(&own.matmul(directions.transpose()?)?)?; // [N, V]
    let of_token = |(&id, cosines): (&u32, &Vec<f32>)| {
        let likeliest = most_likely(cosines, NEIGHBOURS + 1).into_iter();
        let others = likeliest.map(|token| token.id).filter(|&other| other != id);
        others
            .take(NEIGHBOURS)
            .map(|other| (other, cosines[other as usize]))
            .collect()
    };
    Ok(ids.iter().zip(&cosines).map(of_token).collect())
}

fn neighbours(looked: &Looked, ids: &[u32], nearest: &[Vec<(u32, f32)>]) -> Value {
    let described = nearest.iter().zip(ids).map(|(others, &id)| {
        let others: Vec<Value> = others
            .iter()
            .map(|&(other, cosine)| json!([looked.text(other), cosine]))
            .collect();
        json!({"id": id, "text": looked.text(id), "neighbours": others})
    });
    described.collect()
}

/// The tokens and their neighbours as points; `own` ones are of the text.
fn plane(looked: &Looked, table: &Array, ids: &[u32], nearest: &[Vec<(u32, f32)>]) -> Result<Value> {
    let mut all = ids.to_vec();
    all.extend(nearest.iter().flatten().map(|&(id, _)| id));
    all.sort_unstable();
    all.dedup();
    if all.len() < 3 {
        return Ok(json!([]));
    }
    let vectors = table.take_axis(Array::from_slice(&all, &[all.len() as i32]), 0)?;
    let places = rows(&principal_plane(&vectors)?)?;
    let points = all
        .iter()
        .zip(places)
        .map(|(&id, place)| json!({"text": looked.text(id), "x": place[0], "y": place[1], "own": ids.contains(&id)}));
    Ok(points.collect())
}

/// Cosines between the embeddings of the first positions, `[T, T]`; none where positions are not learned.
fn positions(looked: &Looked) -> Result<Value> {
    let Some(wpe) = looked.gpt.embeddings().wpe() else {
        return Ok(Value::Null);
    };
    let count = (TOKENS as i32).min(wpe.dim(0));
    let directions = directions(&wpe.try_index(..count)?)?;
    Ok(json!(rows(&directions.matmul(directions.transpose()?)?)?))
}

//! Attention step by step, for any leading axes.

use anyhow::Result;
use mlx_rs::{Array, ops};

use super::Recipe;
use super::workspace::Workspace;
use crate::config::ModelConfig;
use crate::model::attention::Attention;
use crate::model::embeddings::Embeddings;
use crate::model::init::initialize;
use crate::model::linear::Linear;
use crate::model::parameters::Parameters;

/// An untrained attention layer, with embeddings for its input.
pub struct WorkedExample {
    pub model: ModelConfig,
    pub parameters: Parameters,
}

/// Factor for the weights: a new model's are so small that all scores are nearly zero.
const ENLARGED: f32 = 12.0;

impl WorkedExample {
    /// A random head of that configuration.
    pub fn new(workspace: &Workspace, recipe: &Recipe) -> Result<Self> {
        let model = workspace.config(recipe)?.model(workspace.tokenizer()?.vocab_size());
        let parameters =
            initialize(&model, workspace.seed())?.map(|array| array.multiply(Array::from_f32(ENLARGED)))?;
        Ok(Self { model, parameters })
    }

    /// The tokens of texts of equal length, `[B, T]`.
    pub fn ids(&self, workspace: &Workspace, texts: &[&str]) -> Result<Array> {
        let mut ids = Vec::new();
        for text in texts {
            ids.extend(workspace.tokenizer()?.encode(text)?);
        }
        let shape = [texts.len() as i32, (ids.len() / texts.len()) as i32];
        Ok(Array::from_slice(&ids, &shape))
    }

    /// Their vectors, `[B, T, C]`.
    pub fn vectors(&self, workspace: &Workspace, texts: &[&str]) -> Result<Array> {
        let ids = self.ids(workspace, texts)?;
        Ok(Embeddings::new(&self.model, &self.parameters)?.forward(&ids, 0)?)
    }

    /// The library's layer.
    pub fn attention(&self) -> Result<Attention> {
        Ok(Attention::new(&self.parameters.under("attn"), &self.model)?)
    }

    fn linear(&self, name: &str) -> Result<Linear> {
        Ok(Linear::new(&self.parameters.under(name), &self.model)?)
    }

    // ANCHOR: project
    /// Queries, keys and values of x, each `[B, T, C]`.
    pub fn project(&self, x: &Array) -> Result<[Array; 3]> {
        let all = self.linear("attn.c_attn")?.forward(x)?; // [B, T, 3C]
        let parts = all.split_equal(3, -1)?;
        Ok([parts[0].clone(), parts[1].clone(), parts[2].clone()])
    }
    // ANCHOR_END: project

    // ANCHOR: one_head
    /// A whole head: x `[B, T, C]` to `[B, T, C]`.
    pub fn one_head(&self, x: &Array) -> Result<Array> {
        let [q, k, v] = self.project(x)?;
        let weights = masked_softmax(&scores(&q, &k)?, Some(&future(x.dim(1))?))?; // [B, T, T]
        self.last_layer(&weights.matmul(&v)?)
    }
    // ANCHOR_END: one_head

    /// The output projection, `[B, T, C]` to `[B, T, C]`.
    pub fn last_layer(&self, gathered: &Array) -> Result<Array> {
        Ok(self.linear("attn.c_proj")?.forward(gathered)?)
    }
}

// ANCHOR: scores
/// Attention scores, the dot product of each query with each key: `[…, T, D]` and `[…, S, D]` to `[…, T, S]`.
pub fn scores(queries: &Array, keys: &Array) -> Result<Array> {
    let products = queries.matmul(keys.swap_axes(-1, -2)?)?; // q · k of every pair
    let head_size = queries.dim(-1) as f32;
    Ok(products.divide(Array::from_f32(head_size.sqrt()))?)
}
// ANCHOR_END: scores

// ANCHOR: future
/// The causal mask, true where a column's token comes after a row's: `[T, T]`.
pub fn future(tokens: i32) -> Result<Array> {
    let place = ops::arange::<_, i32>(None, tokens, None)?; // [T]
    Ok(ops::lt(place.expand_dims(-1)?, &place)?)
}
// ANCHOR_END: future

/// Scores with the `hidden` ones replaced by minus infinity, `[…, T, S]`.
pub fn masked(scores: &Array, hidden: &Array) -> Result<Array> {
    Ok(ops::select(hidden, Array::from_f32(f32::NEG_INFINITY), scores)?)
}

// ANCHOR: masked_softmax
/// Masked softmax: scores `[…, T, S]` to weights that sum to 1 in each row, 0 for `hidden` tokens.
pub fn masked_softmax(scores: &Array, hidden: Option<&Array>) -> Result<Array> {
    let scores = match hidden {
        Some(hidden) => masked(scores, hidden)?,
        None => scores.clone(),
    };
    Ok(ops::softmax_axis(&scores, -1, true)?)
}
// ANCHOR_END: masked_softmax

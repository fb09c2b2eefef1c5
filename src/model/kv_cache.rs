//! Keys and values of earlier tokens, so that a new token costs one row of attention instead of the full T × T matrix; and what
//! convolutions and n-grams need of the last tokens.

use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{Array, Dtype, ops, transforms};

use super::convolution::zeros_before;
use super::ngrams;
use crate::config::ModelConfig;

/// The caches of all layers, in buffers that are made once and written in place.
pub struct KvCache {
    layers: Vec<LayerCache>,
    length: i32,
    /// The last tokens, for n-grams: their ids + 1, 0 before the first, `[B, before]`. None at first, and without n-grams.
    tokens: Option<Array>,
}

/// Keys and values of one layer, `[B, K, context, D]` each, of which the first `length` positions are filled.
pub struct LayerCache {
    keys: Array,
    values: Array,
    length: i32,
    /// The last inputs of the block, for its convolution, `[B, before, C]`. None at first, and without a convolution.
    inputs: Option<Array>,
}

impl KvCache {
    /// An empty cache for `rows` sequences of up to the model's context.
    pub fn new(model: &ModelConfig, rows: usize, dtype: Dtype) -> Result<Self> {
        let shape = [rows, model.kv_heads(), model.context, model.embd / model.heads].map(|n| n as i32);
        let layer = |_| {
            Ok(LayerCache {
                keys: ops::zeros_dtype(&shape, dtype)?,
                values: ops::zeros_dtype(&shape, dtype)?,
                length: 0,
                inputs: None,
            })
        };
        Ok(Self {
            layers: (0..model.layers).map(layer).collect::<Result<_>>()?,
            length: 0,
            tokens: None,
        })
    }

    /// Number of tokens in it.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether it has no tokens.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes of its buffers.
    pub fn bytes(&self) -> usize {
        self.arrays().map(Array::nbytes).sum()
    }

    /// Forgets all tokens and keeps the buffers.
    pub fn clear(&mut self) {
        self.length = 0;
        self.tokens = None;
        for layer in &mut self.layers {
            layer.length = 0;
            layer.inputs = None;
        }
    }

    /// Repeats the single row `rows` times: `[1, …]` to `[rows, …]`.
    pub fn repeat(&mut self, rows: usize) -> Result<()> {
        // No copy yet: the first write makes one.
        self.map(|array| {
            let shape = [&[rows as i32], &array.shape()[1..]].concat();
            ops::broadcast_to(array, &shape)
        })
    }

    /// Selects rows by index, in that order: `[B, …]` to `[rows, …]`.
    pub fn select_rows(&mut self, rows: &[usize]) -> Result<()> {
        let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        let rows = Array::from_slice(&rows, &[rows.len() as i32]);
        self.map(|array| array.take_axis(&rows, 0))
    }

    /// Evaluates the buffers. Otherwise filling the cache in chunks builds one large graph.
    pub fn evaluate(&self) -> Result<()> {
        transforms::eval(self.arrays())
    }

    fn arrays(&self) -> impl Iterator<Item = &Array> {
        let layers = self.layers.iter();
        layers
            .flat_map(|layer| [&layer.keys, &layer.values].into_iter().chain(&layer.inputs))
            .chain(&self.tokens)
    }

    fn map(&mut self, f: impl Fn(&Array) -> Result<Array>) -> Result<()> {
        for layer in &mut self.layers {
            layer.keys = f(&layer.keys)?;
            layer.values = f(&layer.values)?;
            layer.inputs = layer.inputs.as_ref().map(&f).transpose()?;
        }
        self.tokens = self.tokens.as_ref().map(&f).transpose()?;
        Ok(())
    }

    /// New ids `[B, T]` after the `before` tokens that precede them: `[B, before + T]`, each its id + 1, or 0 before the first.
    pub(super) fn extend_tokens(&mut self, ids: &Array, before: i32) -> Result<Array> {
        let all = match &self.tokens {
            Some(tokens) => ops::concatenate(&[tokens.clone(), ngrams::plus_one(ids)?], 1)?,
            None => ngrams::marked(ids, before)?,
        };
        self.tokens = Some(last(&all, before)?);
        Ok(all)
    }

    /// Counts `tokens` more tokens; gives the position of the first of them, and the caches that a forward pass over them
    /// fills.
    pub(super) fn advance(&mut self, tokens: i32) -> (i32, &mut [LayerCache]) {
        let start = self.length;
        self.length += tokens;
        (start, &mut self.layers)
    }
}

impl LayerCache {
    /// Number of tokens in it.
    pub(super) fn len(&self) -> i32 {
        self.length
    }

    /// New inputs of the block, `[B, T, C]`, after the `before` that precede them, 0 before the first token:
    /// `[B, before + T, C]`.
    pub(super) fn extend_inputs(&mut self, x: &Array, before: i32) -> Result<Array> {
        let earlier = match &self.inputs {
            Some(inputs) => inputs.clone(),
            None => zeros_before(x, before)?,
        };
        let all = ops::concatenate(&[earlier, x.clone()], 1)?;
        self.inputs = Some(last(&all, before)?);
        Ok(all)
    }

    /// Appends the keys and values of new tokens, `[B, K, T, D]`, and gives those of all S tokens so far, `[B, K, S, D]`.
    pub(super) fn extend(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        let (start, end) = (self.length, self.length + keys.dim(2));
        if end > self.keys.dim(2) {
            return Err(Exception::custom(format!(
                "{end} tokens exceed the context of {}",
                self.keys.dim(2)
            )));
        }
        self.keys
            .try_index_mut((.., .., start..end), keys)
            .map_err(index_error)?;
        self.values
            .try_index_mut((.., .., start..end), values)
            .map_err(index_error)?;
        self.length = end;
        let filled = (.., .., ..end);
        Ok((self.keys.try_index(filled)?, self.values.try_index(filled)?))
    }
}

/// The last `places` of `[B, S, …]`.
fn last(all: &Array, places: i32) -> Result<Array> {
    all.try_index((.., all.dim(1) - places..))
}

fn index_error(error: impl std::fmt::Display) -> Exception {
    Exception::custom(error.to_string())
}

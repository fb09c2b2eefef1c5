//! Keys and values of tokens already seen, so that a new token costs one column of attention and not a whole square.

use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{Array, Dtype, ops, transforms};

use crate::config::ModelConfig;

/// The caches of all layers, in buffers that are made once and written in place.
pub struct KvCache {
    layers: Vec<LayerCache>,
    length: i32,
}

/// Keys and values of one layer, `[B, K, context, D]` each, of which the first `length` positions are filled.
pub struct LayerCache {
    keys: Array,
    values: Array,
    length: i32,
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
            })
        };
        Ok(Self {
            layers: (0..model.layers).map(layer).collect::<Result<_>>()?,
            length: 0,
        })
    }

    /// Tokens in it.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes of its buffers.
    pub fn bytes(&self) -> usize {
        let arrays = self.layers.iter().flat_map(|layer| [&layer.keys, &layer.values]);
        arrays.map(Array::nbytes).sum()
    }

    /// Forgets all tokens and keeps the buffers.
    pub fn clear(&mut self) {
        self.length = 0;
        self.layers.iter_mut().for_each(|layer| layer.length = 0);
    }

    /// Makes `rows` rows of the one, which are the same until they go on differently.
    pub fn repeat(&mut self, rows: usize) -> Result<()> {
        // No copy yet: the first write makes one.
        self.map(|array| {
            let shape = [&[rows as i32], &array.shape()[1..]].concat();
            ops::broadcast_to(array, &shape)
        })
    }

    /// Keeps these rows only, in this order.
    pub fn keep(&mut self, rows: &[usize]) -> Result<()> {
        let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        let rows = Array::from_slice(&rows, &[rows.len() as i32]);
        self.map(|array| array.take_axis(&rows, 0))
    }

    /// Computes what is in it. Without that, a cache that is filled in pieces is a graph of them all, which is computed
    /// at once.
    pub fn evaluate(&self) -> Result<()> {
        transforms::eval(self.layers.iter().flat_map(|layer| [&layer.keys, &layer.values]))
    }

    fn map(&mut self, f: impl Fn(&Array) -> Result<Array>) -> Result<()> {
        for layer in &mut self.layers {
            layer.keys = f(&layer.keys)?;
            layer.values = f(&layer.values)?;
        }
        Ok(())
    }

    /// The layers' caches, for a forward pass over `tokens` more tokens; the position of the first of them.
    pub(super) fn begin(&mut self, tokens: i32) -> (i32, &mut [LayerCache]) {
        let start = self.length;
        self.length += tokens;
        (start, &mut self.layers)
    }
}

impl LayerCache {
    /// Tokens in it.
    pub(super) fn len(&self) -> i32 {
        self.length
    }

    // ANCHOR: extend
    /// Adds the keys and values of new tokens, `[B, K, T, D]`, and gives those of all tokens so far.
    pub(super) fn extend(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        let (start, end) = (self.length, self.length + keys.dim(2));
        if end > self.keys.dim(2) {
            return Err(Exception::custom(format!(
                "{end} tokens are over the context of {}",
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
        let so_far = (.., .., ..end);
        Ok((self.keys.try_index(so_far)?, self.values.try_index(so_far)?))
    }
    // ANCHOR_END: extend
}

fn index_error(error: impl std::fmt::Display) -> Exception {
    Exception::custom(error.to_string())
}

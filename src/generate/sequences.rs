//! Token sequences that a model continues side by side.

use anyhow::{Result, ensure};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};

use super::window::Window;
use crate::config::ModelConfig;
use crate::model::Model;
use crate::model::kv_cache::KvCache;

/// Tokens, over all rows, that one forward pass puts into the cache.
const PREFILL_TOKENS: usize = 512;

/// Each of those tokens attends to all before it. This bounds the memory for attention, whatever the context: 52 MB a
/// layer for GPT-2's largest size (25 heads).
const PREFILL_SCORES: usize = PREFILL_TOKENS * 1024;

/// Sequences of one length, a row each: the tokens that the model looks at, and the keys and values of those that it has
/// seen.
pub struct Sequences<'a> {
    model: &'a Model,
    windows: Vec<Window>,
    cache: KvCache,
}

impl<'a> Sequences<'a> {
    /// One sequence, without tokens yet.
    pub(super) fn new(model: &'a Model, config: &ModelConfig) -> Result<Self> {
        Ok(Self {
            model,
            windows: vec![Window::new(config.context)],
            cache: KvCache::new(config, 1, Dtype::Float32)?,
        })
    }

    /// The tokens that the model looks at in a row.
    pub fn window(&self, row: usize) -> &[u32] {
        self.windows[row].ids()
    }

    /// Tokens of each row that the model has not seen yet.
    pub fn unseen(&self) -> usize {
        self.windows[0].ids().len() - self.cache.len()
    }

    /// Adds a token to each row. When the context is full, its last half is kept, which the next
    /// [`next_logits`](Self::next_logits) prefills again.
    pub fn push(&mut self, ids: &[u32]) {
        for (window, &id) in self.windows.iter_mut().zip(ids) {
            if window.push(id) {
                self.cache.clear();
            }
        }
    }

    /// Makes `rows` rows of the one.
    pub(super) fn repeat(&mut self, rows: usize) -> Result<()> {
        self.windows = vec![self.windows[0].clone(); rows];
        Ok(self.cache.repeat(rows)?)
    }

    /// Keeps these rows only, in this order.
    pub(super) fn keep(&mut self, rows: &[usize]) -> Result<()> {
        self.windows = rows.iter().map(|&row| self.windows[row].clone()).collect();
        Ok(self.cache.select_rows(rows)?)
    }

    /// Logits of what comes next, `[rows, V]`. Only tokens that the model has not seen are computed, and they must be
    /// one at least.
    ///
    /// # Errors
    /// No token since the last time, or an error of MLX's.
    pub fn next_logits(&mut self) -> Result<Vec<f32>> {
        let rows = self.windows.len();
        let new = self.unseen();
        ensure!(new > 0, "there is no token to go on from; give at least one");
        let ids: Vec<u32> = self
            .windows
            .iter()
            .flat_map(|window| &window.ids()[self.cache.len()..])
            .copied()
            .collect();
        let ids = Array::from_slice(&ids, &[rows as i32, new as i32]);
        let length = self.windows[0].ids().len();
        let chunk = (PREFILL_TOKENS.min(PREFILL_SCORES / length) / rows).max(1);
        let last = (new - 1) / chunk * chunk;
        for start in (0..last).step_by(chunk) {
            self.model.forward_cached(
                &ids.try_index((.., start as i32..(start + chunk) as i32))?,
                &mut self.cache,
            )?;
            self.cache.evaluate()?;
        }
        let logits = self
            .model
            .forward_cached(&ids.try_index((.., last as i32..))?, &mut self.cache)?; // [rows, V]
        Ok(logits.as_dtype(Dtype::Float32)?.to_vec_exact()?)
    }
}

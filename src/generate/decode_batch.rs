//! A batch of token sequences of one length, with their KV cache.

use anyhow::{Result, ensure};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};

use super::window::ContextWindow;
use crate::config::ModelConfig;
use crate::model::Model;
use crate::model::kv_cache::KvCache;

/// Maximum number of tokens, over all rows, of one forward pass that fills the cache.
const PREFILL_TOKENS: usize = 512;

/// Maximum number of attention scores per head of such a pass: each of its tokens has one for every token before it. This
/// bounds the memory for attention, whatever the context: 52 MB a layer for GPT-2's largest size (25 heads).
const PREFILL_SCORES: usize = PREFILL_TOKENS * 1024;

/// Sequences of one length, a row each: their context windows, and the KV cache of the tokens computed so far.
pub struct DecodeBatch<'a> {
    model: &'a Model,
    windows: Vec<ContextWindow>,
    cache: KvCache,
}

impl<'a> DecodeBatch<'a> {
    /// `rows` sequences, without tokens yet.
    pub(super) fn new(model: &'a Model, config: &ModelConfig, rows: usize) -> Result<Self> {
        Ok(Self {
            model,
            windows: vec![ContextWindow::new(config.context); rows],
            cache: KvCache::new(config, rows, Dtype::Float32)?,
        })
    }

    /// The context window of a row.
    pub fn window(&self, row: usize) -> &[u32] {
        self.windows[row].ids()
    }

    /// Number of tokens of each row that are not in the cache yet.
    pub fn uncached(&self) -> usize {
        self.windows[0].ids().len() - self.cache.len()
    }

    /// Appends a token to each row. When the context is full, its last half is kept, and the next
    /// [`next_logits`](Self::next_logits) rebuilds the cache.
    pub fn push(&mut self, ids: &[u32]) {
        for (window, &id) in self.windows.iter_mut().zip(ids) {
            if window.push(id) {
                self.cache.clear();
            }
        }
    }

    /// Repeats the single row `rows` times.
    pub(super) fn repeat(&mut self, rows: usize) -> Result<()> {
        self.windows = vec![self.windows[0].clone(); rows];
        Ok(self.cache.repeat(rows)?)
    }

    /// Selects rows by index, in that order.
    pub(super) fn select_rows(&mut self, rows: &[usize]) -> Result<()> {
        self.windows = rows.iter().map(|&row| self.windows[row].clone()).collect();
        Ok(self.cache.select_rows(rows)?)
    }

    /// Logits of the next token of each row, `[rows, V]`, row-major. Only tokens that are not in the cache are computed.
    ///
    /// # Errors
    /// No new tokens since the last call, or an error of MLX's.
    pub fn next_logits(&mut self) -> Result<Vec<f32>> {
        let rows = self.windows.len();
        let new = self.uncached();
        ensure!(new > 0, "there is no token to continue from; give at least one");
        let ids: Vec<u32> = self
            .windows
            .iter()
            .flat_map(|window| &window.ids()[self.cache.len()..])
            .copied()
            .collect();
        let ids = Array::from_slice(&ids, &[rows as i32, new as i32]);
        let length = self.windows[0].ids().len();
        // Tokens of each row in a pass.
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

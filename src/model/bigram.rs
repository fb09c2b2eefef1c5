//! The bigram model: what comes next depends on the last token alone.

use mlx_rs::Array;
use mlx_rs::error::Result;

use super::parameters::Parameters;

/// A table of next-token logits.
pub struct Bigram {
    /// Row i: the logits of the token after token i, `[V, V]`.
    wte: Array,
}

impl Bigram {
    /// Builds the model from its parameters.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(parameters: &Parameters) -> Result<Self> {
        Ok(Self {
            wte: parameters.get("wte.weight")?.clone(),
        })
    }

    /// Token ids `[B, T]` to logits `[B, T, V]`.
    pub fn forward(&self, ids: &Array) -> Result<Array> {
        self.wte.take_axis(ids, 0)
    }
}

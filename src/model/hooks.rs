//! Activations of a forward pass by name, to be read or replaced, with the names of TransformerLens without its `hook_`.
//!
//! | name | shape | what |
//! |---|---|---|
//! | `embed`, `pos_embed` | `[B, T, C]` | token and position embeddings (rotary models have no second) |
//! | `blocks.N.resid_pre`, `resid_mid`, `resid_post` | `[B, T, C]` | residual stream before, between and after the branches of block N |
//! | `blocks.N.ln1.normalized`, `ln2.normalized` | `[B, T, C]` | what attention and MLP read, with the norm's weight and bias |
//! | `blocks.N.attn.q`, `k`, `v`, `z` | `[B, T, H, D]` | queries, keys, values (`[B, T, K, D]`), weighted values, of each head |
//! | `blocks.N.attn.scores`, `pattern` | `[B, H, T, T]` | scores, −∞ for the future, and their softmax, query by key |
//! | `blocks.N.mlp.pre`, `post` | `[B, T, F]` | hidden channels before and after the activation |
//! | `blocks.N.attn_out`, `mlp_out` | `[B, T, C]` | what a branch adds to the residual stream |
//! | `ln_final.normalized` | `[B, T, C]` | what the output projection reads |
//!
//! ```
//! use mlx_gpt::config::{ModelConfig, Preset};
//! use mlx_gpt::model::{Gpt, init::initialize};
//! use mlx_rs::Array;
//!
//! let config = ModelConfig { layers: 2, embd: 16, heads: 2, ..Preset::Nano.model_config(65) };
//! let gpt = Gpt::new(&config, &initialize(&config, 1337)?)?;
//! let ids = Array::from_slice(&[1, 2, 3], &[1, 3]);
//! // What would the model say without the second layer's attention?
//! let logits = gpt.forward_hooked(&ids, &mut |name, x| match name {
//!     "blocks.1.attn_out" => x.multiply(Array::from_f32(0.0)),
//!     _ => Ok(x),
//! })?;
//! assert_eq!(logits.shape(), [1, 3, 65]);
//! # Ok::<(), anyhow::Error>(())
//! ```

use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

use super::Model;

/// Called with each activation and its name, in the order of computation; returns the activation to go on with.
pub type Hook<'a> = dyn FnMut(&str, Array) -> Result<Array> + 'a;

/// The hook for a part of a model, whose names begin with `prefix`.
pub(super) fn within<'a>(prefix: &'a str, hook: &'a mut Hook) -> impl FnMut(&str, Array) -> Result<Array> + 'a {
    move |name, x| hook(&format!("{prefix}{name}"), x)
}

/// A row of activations for one position: puts `value`, `[1, …]`, in the place of position `position` of x, `[1, T, …]`.
///
/// # Errors
/// A position that x does not have.
pub fn replace_position(x: &Array, position: i32, value: &Array) -> Result<Array> {
    let length = x.dim(1);
    if !(0..length).contains(&position) {
        return Err(Exception::custom(format!(
            "position {position} is not one of the {length}"
        )));
    }
    let value = value.expand_dims(1)?; // [1, 1, …]
    let before = x.try_index((.., ..position))?;
    let after = x.try_index((.., position + 1..))?;
    ops::concatenate(&[before, value, after], 1)
}

impl Model {
    /// As [`Gpt::forward_hooked`](super::Gpt::forward_hooked).
    ///
    /// # Errors
    /// A model without blocks.
    pub fn forward_hooked(&self, ids: &Array, hook: &mut Hook) -> Result<Array> {
        match self {
            Self::Gpt2(gpt) => gpt.forward_hooked(ids, hook),
            Self::Bigram(_) | Self::Shallow(_) => Err(Exception::custom("this model has no blocks to look into")),
        }
    }
}

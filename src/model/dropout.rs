//! Dropout whose masks are a function of where they fall, never of which thread computes them.

use std::cell::Cell;

use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{ops, random};

/// Dropout of one forward pass (Srivastava et al. 2014), scaled so that nothing changes in expectation.
///
/// Each place in the network that drops out asks in turn and has a random key of its own. The mask is drawn for the
/// whole batch and cut to the rows at hand, so that a batch split over threads has the masks of the batch in one piece.
pub struct Dropout {
    rate: f32,
    /// `[sites, 2]` uint32: a random key for each call of [`apply`](Self::apply).
    keys: Array,
    next_site: Cell<i32>,
    batch_rows: i32,
    first_row: i32,
}

impl Dropout {
    /// How many sites a GPT-2 of `layers` blocks has: one after the embeddings; in each block one on the attention
    /// weights and one at the end of either residual branch.
    pub const fn sites(layers: usize) -> usize {
        1 + 3 * layers
    }

    /// For `first_row` and the rows after it of a batch of `batch_rows`.
    pub fn new(rate: f32, keys: Array, batch_rows: i32, first_row: i32) -> Self {
        Self {
            rate,
            keys,
            next_site: Cell::new(0),
            batch_rows,
            first_row,
        }
    }

    /// How many sites have asked for a mask so far.
    pub fn sites_used(&self) -> i32 {
        self.next_site.get()
    }

    /// `x`, `[rows, …]`, with a share `rate` of its elements zeroed and the others scaled up.
    pub fn apply(&self, x: &Array) -> Result<Array> {
        let site = self.next_site.replace(self.next_site.get() + 1);
        if site >= self.keys.dim(0) {
            return Err(Exception::custom(format!("dropout has no key for site {site}")));
        }
        let mut shape = x.shape().to_vec();
        let rows = self.first_row..self.first_row + shape[0];
        shape[0] = self.batch_rows;
        // ANCHOR: mask
        let keep = random::bernoulli(
            &Array::from_f32(1.0 - self.rate),
            shape.as_slice(),
            &self.keys.try_index(site..site + 1)?.reshape(&[2])?, // a view
        )?;
        let scale = Array::from_f32(1.0 / (1.0 - self.rate)).as_dtype(x.dtype())?;
        ops::multiply(x.multiply(keep.try_index(rows)?.as_dtype(x.dtype())?)?, scale)
        // ANCHOR_END: mask
    }
}

/// Applies dropout where there is any; training passes it, evaluation and generation do not.
pub fn maybe(dropout: Option<&Dropout>, x: Array) -> Result<Array> {
    match dropout {
        Some(dropout) => dropout.apply(&x),
        None => Ok(x),
    }
}

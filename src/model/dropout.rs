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
#[derive(Clone)]
pub struct Dropout {
    rate: f32,
    /// `[sites, 2]` uint32: a random key for each call of [`apply`](Self::apply).
    keys: Array,
    next_site: Cell<i32>,
    batch_rows: i32,
    first_row: i32,
}

impl Dropout {
    /// Sites of a block: one on the attention weights and one at the end of either residual branch.
    pub const BLOCK_SITES: usize = 3;

    /// How many sites a GPT-2 of `layers` blocks has: one after the embeddings, and those of each block.
    pub const fn sites(layers: usize) -> usize {
        1 + Self::BLOCK_SITES * layers
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

    /// The keys of the next `sites`, `[sites, 2]`, which count as used from here on.
    pub fn take_keys(&self, sites: usize) -> Result<Array> {
        let first = self.next_site.get();
        let end = first + sites as i32;
        self.next_site.set(end);
        self.keys.try_index(first..end)
    }

    /// The same dropout with other keys, from the first on.
    pub fn with_keys(&self, keys: Array) -> Self {
        Self::new(self.rate, keys, self.batch_rows, self.first_row)
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

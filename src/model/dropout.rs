//! Dropout whose masks do not depend on the number of workers.

use std::cell::Cell;

use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{ops, random};

/// Dropout of one forward pass (Srivastava et al. 2014), scaled so that nothing changes in expectation.
///
/// Each dropout site has a random key of its own, used in the order of the calls. The mask is drawn for the whole batch and
/// sliced to this worker's rows, so that masks do not depend on how a batch is split.
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

    /// Number of dropout sites of a GPT-2 of `layers` blocks: one after the embeddings, and those of each block.
    pub const fn sites(layers: usize) -> usize {
        1 + Self::BLOCK_SITES * layers
    }

    /// For the rows from `first_row` on of a batch of `batch_rows`, with `keys` `[sites, 2]`, uint32.
    pub fn new(rate: f32, keys: Array, batch_rows: i32, first_row: i32) -> Self {
        Self {
            rate,
            keys,
            next_site: Cell::new(0),
            batch_rows,
            first_row,
        }
    }

    /// The keys of the next `sites` sites, `[sites, 2]`; they count as used.
    pub fn take_keys(&self, sites: usize) -> Result<Array> {
        let first = self.next_site.get();
        let end = first + sites as i32;
        self.next_site.set(end);
        self.keys.try_index(first..end)
    }

    /// The same dropout with other `keys`, `[sites, 2]`, none of them used.
    pub fn with_keys(&self, keys: Array) -> Self {
        Self::new(self.rate, keys, self.batch_rows, self.first_row)
    }

    /// Number of sites that have drawn a mask so far; tests compare it with [`sites`](Self::sites).
    pub fn sites_used(&self) -> i32 {
        self.next_site.get()
    }

    /// Zeroes each element of `x` with probability `rate` and divides the others by 1 − rate: `[rows, …]` to `[rows, …]`.
    ///
    /// # Errors
    /// More calls than keys.
    pub fn apply(&self, x: &Array) -> Result<Array> {
        let site = self.next_site.replace(self.next_site.get() + 1);
        if site >= self.keys.dim(0) {
            return Err(Exception::custom(format!("dropout has no key for site {site}")));
        }
        let mut shape = x.shape().to_vec();
        let rows = self.first_row..self.first_row + shape[0];
        shape[0] = self.batch_rows;
        let keep = random::bernoulli(
            &Array::from_f32(1.0 - self.rate),
            shape.as_slice(),
            &self.keys.try_index(site..site + 1)?.reshape(&[2])?, // a view
        )?;
        let scale = Array::from_f32(1.0 / (1.0 - self.rate)).as_dtype(x.dtype())?;
        ops::multiply(x.multiply(keep.try_index(rows)?.as_dtype(x.dtype())?)?, scale)
    }
}

/// Applies dropout to x of `[rows, …]` where there is any: training passes it, evaluation and generation do not.
pub fn maybe(dropout: Option<&Dropout>, x: Array) -> Result<Array> {
    match dropout {
        Some(dropout) => dropout.apply(&x),
        None => Ok(x),
    }
}

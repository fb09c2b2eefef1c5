//! The n-gram table in a step: only the rows that its batches need are read, trained and written back.
//!
//! They are found on the host, before the step. The step's functions get them in the place of the whole table, as an array
//! `[R, C]` of one size in all steps, R the most rows that batches of this size can need, so that they are compiled once.
//! Rows are updated where they occur, and their moments wait meanwhile: PyTorch's SparseAdam.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops::indexing::{TryIndexOp, scatter_single};

use super::arrays::ParameterState;
use super::gradients::MicroBatch;
use crate::config::{Components, TrainConfig};
use crate::model::ngrams;

/// Which rows of the table steps of a run can need.
#[derive(Clone, Copy, Debug)]
pub struct TableAccess {
    components: Components,
    /// R.
    capacity: usize,
}

/// The rows of the table that a step needs.
pub struct TableRows {
    /// Their indices, all different.
    indices: Array,
    /// The same, up to R of them: any index fills it up, whose gradient is zero and whose update is dropped.
    padded: Array,
}

impl TableAccess {
    /// For the steps of a run.
    pub fn new(config: &TrainConfig, components: Components) -> Self {
        let needed = components.ngram_sizes().count() * config.tokens_per_step();
        Self {
            components,
            capacity: needed.min(components.ngram_rows),
        }
    }

    /// R: rows of the array that a step's functions get.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The rows of all `micro_batches`, each of which is given the place of its tokens' rows among them.
    pub fn find(&self, micro_batches: &mut [MicroBatch]) -> TableRows {
        let mut indices = Vec::new();
        for micro_batch in micro_batches.iter_mut() {
            let batch = &micro_batch.batch;
            micro_batch.ngram_rows = ngrams::rows_of(&self.components, &batch.inputs, batch.context());
            indices.extend(micro_batch.ngram_rows.iter().flatten().copied());
        }
        indices.sort_unstable();
        indices.dedup();
        for row in micro_batches
            .iter_mut()
            .flat_map(|batch| &mut batch.ngram_rows)
            .flatten()
        {
            // The row is one of them.
            *row = indices.partition_point(|index| index < row) as u32;
        }
        let mut padded = indices.clone();
        padded.resize(self.capacity.max(indices.len()), 0);
        TableRows {
            indices: numbers(&indices),
            padded: numbers(&padded),
        }
    }
}

impl TableRows {
    /// The rows of the table and of its moments, `[R, C]`.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn gather(&self, table: &ParameterState) -> Result<ParameterState> {
        let gather = |whole: &Array| whole.take_axis(&self.padded, 0);
        Ok(ParameterState {
            parameter: gather(&table.parameter)?,
            m: gather(&table.m)?,
            v: table.v.as_ref().map(gather).transpose()?,
        })
    }

    /// The table `[rows, C]` and its moments with those `rows` after the step. The old ones are moved in, so that MLX can write
    /// into their buffers.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn scatter(&self, table: ParameterState, rows: &ParameterState) -> Result<ParameterState> {
        let count = self.indices.dim(0);
        let write = |whole: &Array, rows: &Array| {
            let rows = rows.try_index(..count)?.reshape(&[count, 1, -1])?;
            scatter_single(whole, &self.indices, &rows, 0)
        };
        Ok(ParameterState {
            parameter: write(&table.parameter, &rows.parameter)?,
            m: write(&table.m, &rows.m)?,
            v: match (&table.v, &rows.v) {
                (Some(whole), Some(rows)) => Some(write(whole, rows)?),
                _ => None,
            },
        })
    }
}

fn numbers(indices: &[u32]) -> Array {
    Array::from_slice(indices, &[indices.len() as i32])
}

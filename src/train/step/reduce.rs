//! The sum of the gradients over all ranks, in few messages.

use std::ops::Range;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use mlx_rs::error::Result as MlxResult;
use mlx_rs::{Array, ops};

use super::arrays::{Gradients, RankGradients};
use crate::compute::compiled::{Compiled, compiled, tree_eval};
use crate::compute::ranks::Ranks;
use crate::disk::bytes::Bytes;

/// Bytes of a message at most, unless one gradient has more: 32 MiB. Larger ones gain nothing, as sending takes much longer
/// than starting to, and each needs its size again in memory.
pub const BUCKET_BYTES: usize = 32 << 20;
const BUCKET_NUMBERS: usize = BUCKET_BYTES / 4;

/// All-reduce over the ranks.
///
/// Gradients are flattened into buckets, one message each. The first one begins with the loss, and with the ranks' votes to
/// stop: both cost no message of their own.
pub struct RankReduce {
    ranks: Rc<Ranks>,
    flatten: Compiled<RankGradients, Vec<Array>>,
    unflatten: Compiled<Vec<Array>, Vec<Array>>,
}

impl RankReduce {
    /// For gradients of these shapes, summed as often as `every` says.
    pub fn new(ranks: Rc<Ranks>, shapes: Vec<Vec<i32>>, every: &str) -> Self {
        let sizes: Vec<usize> = shapes
            .iter()
            .map(|shape| shape.iter().product::<i32>() as usize)
            .collect();
        let buckets = buckets(&sizes, BUCKET_NUMBERS);
        if ranks.is_first() {
            log::info!(
                "{} ranks, joined every {every} by {} message(s), {} together",
                ranks.size(),
                buckets.len(),
                Bytes(4 * (sizes.iter().sum::<usize>() + 2) as u64)
            );
        }
        let parts = buckets.clone();
        Self {
            ranks,
            flatten: compiled(move |inputs| flatten(&parts, inputs)),
            unflatten: compiled(move |sums: Vec<Array>| unflatten(&buckets, &shapes, &sums)),
        }
    }

    /// The sum of the gradients of all workers of all ranks; evaluated.
    ///
    /// # Errors
    /// MLX's. If a rank is lost, the process ends.
    pub fn sum(&mut self, workers: Vec<Gradients>) -> Result<Gradients> {
        let votes = Array::from_slice(&[self.ranks.stop_vote()], &[1]);
        let buckets = (self.flatten)(RankGradients { workers, votes })?;
        let sums = self.ranks.sum(&buckets)?;
        drop(buckets);
        let mut outputs = (self.unflatten)(sums)?;
        tree_eval(&outputs)?; // a graph belongs to its thread: the update's threads get numbers
        ensure!(outputs.len() >= 2, "a step has no gradients");
        let gradients = outputs.split_off(2);
        let votes = outputs.pop().context("a message was lost")?;
        self.ranks.count_votes(votes.try_item_exact()?);
        Ok(Gradients {
            loss: outputs.pop().context("a message was lost")?,
            terms: Vec::new(), // objectives that have any are trained on one machine
            gradients,
        })
    }
}

/// Distributes consecutive sizes over buckets of at most `most` each, unless one size is larger.
fn buckets(sizes: &[usize], most: usize) -> Vec<Range<usize>> {
    let mut buckets = Vec::new();
    let (mut start, mut filled) = (0, 0);
    for (index, size) in sizes.iter().enumerate() {
        if filled + size > most && index > start {
            buckets.push(start..index);
            (start, filled) = (index, 0);
        }
        filled += size;
    }
    buckets.push(start..sizes.len());
    buckets
}

/// The buckets of a rank, 1-D: the sums over its workers.
fn flatten(buckets: &[Range<usize>], inputs: RankGradients) -> MlxResult<Vec<Array>> {
    let mut workers = inputs.workers.into_iter();
    let Some(first) = workers.next() else {
        return Ok(Vec::new());
    };
    let sum = workers.try_fold(first, |sum, worker| sum.add(&worker))?;
    let flat = |array: &Array| array.reshape(&[-1]);
    let gradients: Vec<Array> = sum.gradients.iter().map(flat).collect::<MlxResult<_>>()?;
    let head = [flat(&sum.loss)?, inputs.votes];
    let bucket = |(index, part): (usize, &Range<usize>)| {
        let head = head.iter().filter(|_| index == 0);
        let parts: Vec<&Array> = head.chain(&gradients[part.clone()]).collect();
        ops::concatenate(&parts, 0)
    };
    buckets.iter().enumerate().map(bucket).collect()
}

/// The loss and the votes, scalars, then the gradients, of those shapes.
fn unflatten(buckets: &[Range<usize>], shapes: &[Vec<i32>], sums: &[Array]) -> MlxResult<Vec<Array>> {
    let mut outputs = Vec::with_capacity(shapes.len() + 2);
    for (index, (part, sum)) in buckets.iter().zip(sums).enumerate() {
        let head = if index == 0 { vec![vec![]; 2] } else { vec![] };
        let shapes: Vec<Vec<i32>> = head.into_iter().chain(shapes[part.clone()].iter().cloned()).collect();
        let ends: Vec<i32> = shapes
            .iter()
            .scan(0, |end, shape| {
                *end += shape.iter().product::<i32>();
                Some(*end)
            })
            .collect();
        let pieces = sum.split_at_indices(&ends[..ends.len() - 1], 0)?;
        for (piece, shape) in pieces.iter().zip(&shapes) {
            outputs.push(piece.reshape(shape)?);
        }
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_all_gradients_in_order() {
        assert_eq!(buckets(&[3, 4, 5, 100, 1], 10), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(buckets(&[3, 4], 10), vec![0..2]);
    }

    #[test]
    fn what_is_flattened_comes_back_as_the_sum_over_the_workers() {
        let worker = |factor: f32| Gradients {
            loss: Array::from_f32(factor),
            terms: Vec::new(),
            gradients: vec![
                Array::from_slice(&[1.0, 2.0, 3.0, 4.0].map(|x| factor * x), &[2, 2]),
                Array::from_slice(&[5.0 * factor], &[1]),
                Array::from_slice(&[6.0, 7.0].map(|x| factor * x), &[2]),
            ],
        };
        let inputs = RankGradients {
            workers: vec![worker(1.0), worker(10.0)],
            votes: Array::from_slice(&[1.0f32], &[1]),
        };
        let parts = buckets(&[4, 1, 2], 5);
        let flat = flatten(&parts, inputs).unwrap();
        assert_eq!(flat.iter().map(Array::size).collect::<Vec<_>>(), [2 + 5, 2]);
        let back = unflatten(&parts, &[vec![2, 2], vec![1], vec![2]], &flat).unwrap();
        let numbers: Vec<Vec<f32>> = back.iter().map(|array| array.to_vec_exact().unwrap()).collect();
        let expected: [&[f32]; 5] = [&[11.0], &[1.0], &[11.0, 22.0, 33.0, 44.0], &[55.0], &[66.0, 77.0]];
        assert_eq!(numbers, expected);
        assert_eq!((back[0].shape(), back[2].shape()), (&[][..], &[2, 2][..]));
    }
}

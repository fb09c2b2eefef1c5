//! `pairs.safetensors`: log-probabilities of a run's preference pairs under the reference model, which are computed once.

use std::path::Path;

use anyhow::Result;
use mlx_rs::Array;

use super::tensors::{self, Hold, TensorFile};
use super::{PAIRS, hashes};
use crate::disk::floats::Precision;

/// In nats, for each pair those of the chosen and of the rejected answer.
#[derive(Clone, Debug, PartialEq)]
pub struct PairLogprobs {
    /// Of the pairs that are trained on.
    pub train: Vec<[f32; 2]>,
    /// Of the held-out pairs.
    pub val: Vec<[f32; 2]>,
}

impl PairLogprobs {
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let array = |pairs: &[[f32; 2]]| Array::from_slice(pairs.as_flattened(), &[pairs.len() as i32, 2]);
        let arrays = [("train", array(&self.train)), ("val", array(&self.val))];
        let named = arrays.iter().map(|(name, array)| ((*name).to_owned(), array));
        tensors::write(&folder.join(PAIRS), Precision::Float32, named)
    }

    /// Reads those of a checkpoint, for that many training and validation pairs.
    ///
    /// # Errors
    /// The file is missing, was changed, or has another number of pairs.
    pub fn read(folder: &Path, pairs: [usize; 2]) -> Result<Self> {
        let shapes = ["train", "val"].into_iter().zip(pairs);
        let expected = shapes.map(|(name, count)| (name.to_owned(), tensors::TensorSpec::float(vec![count as i32, 2])));
        let file = TensorFile::open(&folder.join(PAIRS))?;
        let all = tensors::read(&[file], |name| Some(name.to_owned()), &expected.collect(), Hold::Copied)?;
        hashes::verify_files(folder, |name| name == PAIRS)?;
        let of = |name: &str| -> Result<Vec<[f32; 2]>> {
            let numbers: Vec<f32> = all.get(name)?.reshape(&[-1])?.to_vec_exact()?;
            Ok(numbers.as_chunks::<2>().0.to_vec())
        };
        Ok(Self {
            train: of("train")?,
            val: of("val")?,
        })
    }
}

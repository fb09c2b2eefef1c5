//! `apart.safetensors`: what ranks that train apart have beside the parameters that they have joined, which resuming needs.

use std::path::Path;

use anyhow::Result;
use mlx_rs::Array;

use super::tensors::{self, ExpectedTensors, Hold, TensorFile, TensorSpec};
use super::{APART, hashes};
use crate::disk::floats::Precision;
use crate::model::parameters::Parameters;

/// The state of the outer optimizer, and the inner optimizers' of all ranks but the first, whose own are the moments.
#[derive(Clone)]
pub struct Apart {
    /// The outer momentum, of all trainable parameters.
    pub momentum: Parameters,
    /// The moments m and v of rank 1 and up.
    pub others: Vec<[Parameters; 2]>,
}

impl Apart {
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let named = |prefix: String, parameters: &Parameters| -> Vec<(String, Array)> {
            let entry = |(name, array): (&str, &Array)| (format!("{prefix}.{name}"), array.clone());
            parameters.iter().map(entry).collect()
        };
        let mut all = named("outer".into(), &self.momentum);
        for (index, [m, v]) in self.others.iter().enumerate() {
            all.extend(named(format!("m{}", index + 1), m));
            all.extend(named(format!("v{}", index + 1), v));
        }
        let arrays = all.iter().map(|(name, array)| (name.clone(), array));
        tensors::write(&folder.join(APART), Precision::Float32, arrays)
    }

    /// Reads it, if the checkpoint has it; shapes are those of the moments `m` and `v` of the same checkpoint.
    ///
    /// # Errors
    /// A file that was changed, or is not of this model.
    pub(super) fn read(folder: &Path, m: &Parameters, v: &Parameters) -> Result<Option<Self>> {
        let path = folder.join(APART);
        if !path.exists() {
            return Ok(None);
        }
        let file = TensorFile::open(&path)?;
        let Some((first, _)) = m.iter().next() else {
            return Ok(None);
        };
        // The moments of the first parameter say how many ranks there were.
        let rank = |name: &String| {
            let (prefix, of) = name.split_once('.')?;
            let number = prefix.strip_prefix('m')?.parse::<usize>().ok()?;
            (of == first).then_some(number)
        };
        let others = file.names().iter().filter_map(rank).max().unwrap_or(0);
        let mut expected = ExpectedTensors::new();
        let mut expect = |prefix: String, parameters: &Parameters| {
            for (name, array) in parameters.iter() {
                expected.insert(format!("{prefix}.{name}"), TensorSpec::float(array.shape().to_vec()));
            }
        };
        expect("outer".into(), m);
        for rank in 1..=others {
            expect(format!("m{rank}"), m);
            expect(format!("v{rank}"), v);
        }
        let all = tensors::read(&[file], |name| Some(name.to_owned()), &expected, Hold::Copied)?;
        hashes::verify_files(folder, |name| name == APART)?;
        let part = |prefix: String| {
            let prefix = prefix + ".";
            let own = all.iter();
            Parameters::from_entries(
                own.filter_map(|(name, array)| Some((name.strip_prefix(&prefix)?.to_owned(), array.clone())))
                    .collect(),
            )
        };
        Ok(Some(Self {
            momentum: part("outer".into()),
            others: (1..=others)
                .map(|rank| [part(format!("m{rank}")), part(format!("v{rank}"))])
                .collect(),
        }))
    }
}

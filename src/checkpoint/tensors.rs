//! safetensors files to MLX arrays and back, strictly.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use mlx_rs::Array;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};

use crate::model::parameters::Parameters;

/// Reads float32 arrays whose names and shapes are exactly `expected`.
///
/// # Errors
/// A file that is not safetensors or cut short; a missing, additional or differently shaped tensor.
pub fn read(path: &Path, expected: &BTreeMap<String, Vec<i32>>) -> Result<Parameters> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("{shown} cannot be read"))?;
    // SAFETY: the map is read once, here; checkpoints are replaced by renaming, never written in place.
    let map = unsafe { Mmap::map(&file) }.with_context(|| format!("{shown} cannot be read"))?;
    let tensors = SafeTensors::deserialize(&map)
        .with_context(|| format!("{shown} is damaged or not a safetensors file; copy it again from where it came"))?;
    if let Some(name) = tensors.names().iter().find(|name| !expected.contains_key(**name)) {
        bail!("{shown} has a tensor {name} that a model of this config.json has not");
    }
    let entries = expected.iter().map(|(name, shape)| {
        let tensor = tensors
            .tensor(name)
            .map_err(|_| anyhow::anyhow!("{shown} has no tensor {name}, which a model of this config.json needs"))?;
        let same = tensor
            .shape()
            .iter()
            .map(|&n| n as i64)
            .eq(shape.iter().map(|&n| i64::from(n)));
        ensure!(
            same,
            "{shown}: tensor {name} has shape {:?}, the model needs {shape:?}",
            tensor.shape()
        );
        Ok((
            name.clone(),
            array(&tensor, shape).with_context(|| format!("{shown}: tensor {name}"))?,
        ))
    });
    Ok(Parameters::from_entries(entries.collect::<Result<_>>()?))
}

fn array(tensor: &TensorView, shape: &[i32]) -> Result<Array> {
    ensure!(
        tensor.dtype() == Dtype::F32,
        "has format {:?}; only F32 is read",
        tensor.dtype()
    );
    let numbers: Vec<f32> = tensor
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect();
    Ok(Array::from_slice(&numbers, shape))
}

/// Writes float32 arrays.
///
/// # Errors
/// The file cannot be written, or an array is not float32.
pub fn write<'a>(path: &Path, arrays: impl Iterator<Item = (String, &'a Array)>) -> Result<()> {
    let tensors = arrays
        .map(|(name, array)| {
            // Parameters are whole buffers in order; a view would be an error here, not a wrong file.
            let numbers = array.try_as_slice::<f32>().with_context(|| format!("tensor {name}"))?;
            let shape = array.shape().iter().map(|&n| n as usize).collect();
            Ok((name, Tensor { numbers, shape }))
        })
        .collect::<Result<Vec<_>>>()?;
    // Readers such as transformers look for the framework whose conventions the layout follows.
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    // The library makes files for the owner alone; this one is to have the permissions that new files have here.
    let permissions = File::create(path)?.metadata()?.permissions();
    safetensors::serialize_to_file(tensors, Some(metadata), path)?;
    std::fs::set_permissions(path, permissions)?;
    Ok(())
}

struct Tensor<'a> {
    numbers: &'a [f32],
    shape: Vec<usize>,
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.numbers)
    }
}

//! The reference's numbers in a file. Another process computes them, because the selection of MLX's kernels is fixed at
//! process start.

use std::path::Path;

use anyhow::{Context, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};

use super::probe::{Answer, Answers};
use crate::disk::files;

/// Writes the numbers as safetensors.
///
/// # Errors
/// The file cannot be written.
pub fn write(answers: &Answers, file: &Path) -> Result<()> {
    let tensors = answers.iter().map(|(key, answer)| {
        let bytes: &[u8] = bytemuck::cast_slice(&answer.numbers);
        Ok((
            key.to_string(),
            TensorView::new(Dtype::F32, vec![answer.numbers.len()], bytes)?,
        ))
    });
    let tensors: Vec<_> = tensors.collect::<Result<_>>()?;
    serialize_to_file(tensors, None, file).with_context(|| format!("{} cannot be written", file.display()))
}

/// Reads the numbers of the quantities in `computed`.
///
/// # Errors
/// The file cannot be read, or lacks one of them.
pub fn read(file: &Path, computed: &Answers) -> Result<Answers> {
    let shown = file.display();
    let bytes = files::read(file).with_context(|| format!("{shown} cannot be read"))?;
    let tensors = SafeTensors::deserialize(&bytes).with_context(|| format!("{shown} is damaged"))?;
    let read = computed.iter().map(|(key, answer)| {
        let tensor = tensors
            .tensor(&key.to_string())
            .with_context(|| format!("{shown} lacks {key}"))?;
        let numbers = tensor
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let answer = Answer {
            numbers: numbers.collect(),
            tolerance: answer.tolerance,
        };
        Ok((key.clone(), answer))
    });
    read.collect()
}

//! Exports checkpoints as folders for `transformers` and `mlx-lm`: the files for inference, without the training state.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::checkpoint::Checkpoint;
use crate::config::{Precision, Quantization};
use crate::disk::durable;
use crate::model::linear::quantized::quantize;

/// Writes the model in Hugging Face's layout, with weights in the format `precision`. `proceed` is polled between stages; its
/// error aborts the export.
///
/// # Errors
/// A weight is not finite or overflows `precision`; the disk cannot be written; an error of `proceed`. Nothing is left behind.
pub fn hugging_face(
    checkpoint: &Checkpoint,
    precision: Precision,
    out: &Path,
    proceed: impl Fn() -> Result<()>,
) -> Result<()> {
    checkpoint.check_finite()?;
    write(checkpoint, precision, out, proceed)
}

/// Writes the model in mlx-lm's layout, with quantized matrices.
///
/// # Errors
/// The embedding dimension is not a multiple of the group size; otherwise as [`hugging_face`].
pub fn mlx_lm(
    checkpoint: Checkpoint,
    quantization: Quantization,
    out: &Path,
    proceed: impl Fn() -> Result<()>,
) -> Result<()> {
    quantization.validate_new(checkpoint.model.embd)?;
    checkpoint.check_finite()?;
    let (model, parameters) = quantize(&checkpoint.model, &checkpoint.parameters, quantization)?;
    let quantized = Checkpoint {
        model,
        parameters,
        ..checkpoint
    };
    write(&quantized, Precision::Float32, out, proceed)
}

fn write(checkpoint: &Checkpoint, precision: Precision, out: &Path, proceed: impl Fn() -> Result<()>) -> Result<()> {
    ensure!(checkpoint.base.is_none(), "adapters must be merged before the export");
    let _made = durable::make_parents(out)?;
    proceed()?;
    durable::write_folder(out, |temp| {
        checkpoint.write_model(temp, precision)?;
        proceed()
    })
    .map_err(durable::not_written(out))
}

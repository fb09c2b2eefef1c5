//! Checkpoints as folders for `transformers` and for `mlx-lm`: what a model needs to speak, without what training needs.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::checkpoint::Checkpoint;
use crate::config::{Precision, Quantization};
use crate::disk::durable;
use crate::model::linear::quantized::quantize;

/// Writes the model in Hugging Face's layout, its numbers as `precision` has them.
///
/// # Errors
/// A number that `precision` cannot hold; a disk that cannot be written; an error of `proceed`, which is asked between the
/// parts of the work. Nothing is left behind.
pub fn hugging_face(
    checkpoint: &Checkpoint,
    precision: Precision,
    out: &Path,
    proceed: impl Fn() -> Result<()>,
) -> Result<()> {
    checkpoint.check_finite()?;
    write(checkpoint, precision, out, proceed)
}

/// Writes the model in mlx-lm's layout, its matrices quantized.
///
/// # Errors
/// A width that does not divide into groups; otherwise as [`hugging_face`].
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
    ensure!(
        checkpoint.base.is_none(),
        "adapters have to be merged before they are exported"
    );
    let _made = durable::make_parents(out)?;
    proceed()?;
    durable::write_folder(out, |making| {
        checkpoint.write_model(making, precision)?;
        proceed()
    })
    .map_err(durable::not_written(out))
}

//! Weights in mlx-lm's layout: linear layers as `[out, in]`, quantized if `config.json` says so. `mlx_lm convert -q` also
//! quantizes all embeddings; an export of this program leaves the position embedding as it is.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops, transforms};

use crate::checkpoint::tensors::{self, ExpectedTensors, TensorKind, TensorSpec};
use crate::config::{ModelConfig, Quantization};
use crate::model::linear::linear_layer_of;
use crate::model::linear::lora::is_adapter;
use crate::model::linear::quantized::{BIASES, PACKED, SCALES, quantized_layout};
use crate::model::parameters::Parameters;

/// Prefix of GPT-2's names in mlx-lm's files.
pub const PREFIX: &str = "model.";

const POSITIONS: &str = "wpe";

/// The tensors of a model, by GPT-2's names; `has` tells whether the files contain a name.
pub fn expected(model: &ModelConfig, has: impl Fn(&str) -> bool) -> ExpectedTensors {
    let Some(quantization) = model.quantization else {
        return dense(model);
    };
    let mut expected: ExpectedTensors = quantized_layout(model, quantization)
        .into_iter()
        .map(|spec| {
            let kind = if spec.packed {
                TensorKind::Packed
            } else {
                TensorKind::Float
            };
            let shape = spec.shape;
            (spec.name, TensorSpec { shape, kind })
        })
        .collect();
    if has(&format!("{POSITIONS}.{SCALES}")) {
        let rows = model.context as i32;
        let groups = (model.embd / quantization.group_size) as i32;
        let words = (model.embd * quantization.bits / 32) as i32;
        let packed = TensorSpec {
            shape: vec![rows, words],
            kind: TensorKind::Packed,
        };
        expected.insert(format!("{POSITIONS}.{PACKED}"), packed);
        for part in [SCALES, BIASES] {
            expected.insert(format!("{POSITIONS}.{part}"), TensorSpec::float(vec![rows, groups]));
        }
    }
    expected
}

/// Those of a model that is not quantized.
fn dense(model: &ModelConfig) -> ExpectedTensors {
    let mut expected = tensors::of_layout(model, |name| !is_adapter(name));
    for (name, spec) in &mut expected {
        if linear_layer_of(name).is_some() {
            spec.shape.reverse();
        }
    }
    expected
}

/// Converts the tensors to this program's layout: dequantizes the position embedding and transposes dense matrices to
/// `[in, out]`.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn to_native(model: &ModelConfig, tensors: Parameters) -> Result<Parameters> {
    let mut entries = Vec::new();
    for (name, array) in tensors.iter() {
        match (model.quantization, name.strip_prefix(POSITIONS)) {
            (Some(quantization), Some(".weight")) if tensors.get(&format!("{POSITIONS}.{SCALES}")).is_ok() => {
                entries.push((name.to_owned(), dequantized_positions(&tensors, quantization)?));
            }
            (Some(_), Some(_)) if !name.ends_with(PACKED) => {} // their scales and biases
            (None, _) if linear_layer_of(name).is_some() => {
                entries.push((name.to_owned(), array.transpose()?.contiguous()?));
            }
            _ => entries.push((name.to_owned(), array.clone())),
        }
    }
    transforms::eval(entries.iter().map(|(_, array)| array))?;
    Ok(Parameters::from_entries(entries))
}

/// The dequantized position embedding, `[context, embd]`.
fn dequantized_positions(tensors: &Parameters, quantization: Quantization) -> Result<Array> {
    let part = |part: &str| tensors.get(&format!("{POSITIONS}.{part}"));
    let Quantization { group_size, bits } = quantization;
    ops::dequantize(
        part(PACKED)?,
        part(SCALES)?,
        part(BIASES)?,
        group_size as i32,
        bits as i32,
    )
}

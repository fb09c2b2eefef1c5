//! Weights as mlx-lm lays them out, whoever wrote them: linear layers by rows, `[out, in]`, and, where `config.json` says
//! so, quantized. `mlx_lm convert -q` quantizes every embedding too, positions among them; an export of this program
//! leaves positions as they are.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops, transforms};

use crate::checkpoint::tensors::{Expected, Form, TensorKind};
use crate::config::{LINEAR_LAYERS, ModelConfig, Quantization};
use crate::model::init::layout;
use crate::model::linear::lora::is_adapter;
use crate::model::linear::quantized::{BIASES, PACKED, SCALES, quantized_layout};
use crate::model::parameters::Parameters;

/// What stands before GPT-2's own names.
pub const PREFIX: &str = "model.";

const POSITIONS: &str = "wpe";

/// The tensors of a model, by GPT-2's own names; `has` says whether the file has one of that name.
pub fn expected(model: &ModelConfig, has: impl Fn(&str) -> bool) -> Expected {
    let Some(quantization) = model.quantization else {
        return dense(model);
    };
    let mut expected: Expected = quantized_layout(model, quantization)
        .into_iter()
        .map(|spec| {
            let kind = if spec.packed {
                TensorKind::Packed
            } else {
                TensorKind::Float
            };
            let shape = spec.shape;
            (spec.name, Form { shape, kind })
        })
        .collect();
    if has(&format!("{POSITIONS}.{SCALES}")) {
        let rows = model.context as i32;
        let groups = (model.embd / quantization.group_size) as i32;
        let words = (model.embd * quantization.bits / 32) as i32;
        let packed = Form {
            shape: vec![rows, words],
            kind: TensorKind::Packed,
        };
        expected.insert(format!("{POSITIONS}.{PACKED}"), packed);
        for part in [SCALES, BIASES] {
            expected.insert(format!("{POSITIONS}.{part}"), Form::float(vec![rows, groups]));
        }
    }
    expected
}

fn dense(model: &ModelConfig) -> Expected {
    layout(model)
        .into_iter()
        .filter(|spec| !is_adapter(&spec.name))
        .map(|spec| {
            let mut shape = spec.shape;
            if is_linear_weight(&spec.name) {
                shape.reverse();
            }
            (spec.name, Form::float(shape))
        })
        .collect()
}

/// The tensors as the model here has them: positions as floating-point numbers, and matrices that are not quantized turned
/// round, `[in, out]`.
///
/// # Errors
/// MLX's.
pub fn to_own(model: &ModelConfig, tensors: Parameters) -> Result<Parameters> {
    let mut entries = Vec::new();
    for (name, array) in tensors.iter() {
        match (model.quantization, name.strip_prefix(POSITIONS)) {
            (Some(quantization), Some(".weight")) if tensors.get(&format!("{POSITIONS}.{SCALES}")).is_ok() => {
                entries.push((name.to_owned(), dequantized_positions(&tensors, quantization)?));
            }
            (Some(_), Some(_)) if !name.ends_with(PACKED) => {} // their scales and biases
            (None, _) if is_linear_weight(name) => {
                entries.push((name.to_owned(), array.transpose()?.contiguous()?));
            }
            _ => entries.push((name.to_owned(), array.clone())),
        }
    }
    transforms::eval(entries.iter().map(|(_, array)| array))?;
    Ok(Parameters::from_entries(entries))
}

/// What a lookup would make of each row: `[context, embd]`.
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

fn is_linear_weight(name: &str) -> bool {
    name.strip_suffix(".weight")
        .is_some_and(|layer| LINEAR_LAYERS.iter().any(|linear| layer.ends_with(linear)))
}

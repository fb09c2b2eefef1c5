//! Matrices of a few bits a number, in MLX's affine quantization.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops, transforms};

use crate::config::{LINEAR_LAYERS, ModelConfig, Quantization};
use crate::model::init::layout;
use crate::model::parameters::{Parameters, Scope};

/// The names of a quantized matrix's parts, under its layer's: whole numbers packed into 32 bits, and the scale and the
/// bias of each group.
pub const PACKED: &str = "weight";
pub const SCALES: &str = "scales";
pub const BIASES: &str = "biases";

/// A matrix by rows: each number is `scale · q + bias`, with q of a few bits.
pub struct Quantized {
    /// `[rows, columns · bits / 32]`, uint32.
    packed: Array,
    /// `[rows, columns / group size]`, as the biases.
    scales: Array,
    biases: Array,
    quantization: Quantization,
}

impl Quantized {
    pub fn new(parameters: &Scope, quantization: Quantization) -> Result<Self> {
        Ok(Self {
            packed: parameters.array(PACKED)?,
            scales: parameters.array(SCALES)?,
            biases: parameters.array(BIASES)?,
            quantization,
        })
    }

    /// x times each row: `[…, columns]` to `[…, rows]`.
    pub fn times_rows(&self, x: &Array) -> Result<Array> {
        let Quantization { group_size, bits } = self.quantization;
        ops::quantized_matmul(
            x,
            &self.packed,
            &self.scales,
            &self.biases,
            true,
            group_size as i32,
            bits as i32,
        )
    }

    /// The rows of those numbers, as floating-point numbers: ids `[…]` to `[…, columns]`.
    pub fn rows(&self, ids: &Array) -> Result<Array> {
        let Quantization { group_size, bits } = self.quantization;
        ops::dequantize(
            self.packed.take_axis(ids, 0)?,
            self.scales.take_axis(ids, 0)?,
            &self.biases.take_axis(ids, 0)?,
            group_size as i32,
            bits as i32,
        )
    }
}

/// The same model with its matrices quantized: those of the blocks, turned so that an output's numbers are a row, and the
/// token embedding, which is the head too. Positions, biases and layer norms stay as they are.
///
/// # Errors
/// A width that does not divide into groups.
pub fn quantize(
    model: &ModelConfig,
    parameters: &Parameters,
    quantization: Quantization,
) -> Result<(ModelConfig, Parameters)> {
    let mut entries = Vec::new();
    for (name, array) in parameters.iter() {
        let Some(layer) = matrix_of(name) else {
            entries.push((name.to_owned(), array.clone()));
            continue;
        };
        let rows = match layer {
            "wte" => array.clone(),
            _ => array.transpose()?,
        };
        let (packed, scales, biases) = ops::quantize(rows, quantization.group_size as i32, quantization.bits as i32)?;
        transforms::eval([&packed, &scales, &biases])?; // one matrix at a time in memory
        entries.push((format!("{layer}.{PACKED}"), packed));
        entries.push((format!("{layer}.{SCALES}"), scales));
        entries.push((format!("{layer}.{BIASES}"), biases));
    }
    let model = ModelConfig {
        quantization: Some(quantization),
        ..model.clone()
    };
    Ok((model, Parameters::from_entries(entries)))
}

/// A parameter of a quantized model.
pub struct QuantizedSpec {
    pub name: String,
    pub shape: Vec<i32>,
    /// Whole numbers packed into uint32; any other is float32.
    pub packed: bool,
}

/// A quantized model's parameters.
pub fn quantized_layout(model: &ModelConfig, quantization: Quantization) -> Vec<QuantizedSpec> {
    let mut specs = Vec::new();
    let mut add = |name: String, shape: Vec<i32>, packed: bool| specs.push(QuantizedSpec { name, shape, packed });
    for spec in layout(model) {
        let Some(layer) = matrix_of(&spec.name) else {
            add(spec.name, spec.shape, false);
            continue;
        };
        let (rows, columns) = match layer {
            "wte" => (spec.shape[0], spec.shape[1]),
            _ => (spec.shape[1], spec.shape[0]),
        };
        let groups = columns / quantization.group_size as i32;
        let words = columns * quantization.bits as i32 / 32;
        add(format!("{layer}.{PACKED}"), vec![rows, words], true);
        add(format!("{layer}.{SCALES}"), vec![rows, groups], false);
        add(format!("{layer}.{BIASES}"), vec![rows, groups], false);
    }
    specs
}

/// The layer whose matrix a parameter is, if it is one that is quantized.
fn matrix_of(name: &str) -> Option<&str> {
    let layer = name.strip_suffix(".weight")?;
    let in_block = LINEAR_LAYERS.iter().any(|linear| layer.ends_with(linear));
    (layer == "wte" || in_block).then_some(layer)
}

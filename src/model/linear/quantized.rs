//! Quantized matrices, in MLX's affine format of a few bits a weight.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops, transforms};

use super::linear_layer_of;
use crate::config::{ModelConfig, Quantization};
use crate::model::init::layout;
use crate::model::parameters::{Parameters, Scope};

/// The name of a quantized matrix's integers, under its layer's: packed into words of 32 bits.
pub const PACKED: &str = "weight";
/// The name of the scale of each group.
pub const SCALES: &str = "scales";
/// The name of the bias of each group.
pub const BIASES: &str = "biases";

/// A matrix quantized along its rows: each weight is `scale · q + bias`, with q an integer of a few bits.
pub struct Quantized {
    /// `[rows, columns · bits / 32]`, uint32.
    packed: Array,
    /// `[rows, columns / group size]`.
    scales: Array,
    /// `[rows, columns / group size]`.
    biases: Array,
    quantization: Quantization,
}

impl Quantized {
    /// Builds the matrix from its parameters.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(parameters: &Scope, quantization: Quantization) -> Result<Self> {
        Ok(Self {
            packed: parameters.array(PACKED)?,
            scales: parameters.array(SCALES)?,
            biases: parameters.array(BIASES)?,
            quantization,
        })
    }

    /// `x Wᵀ`: `[…, columns]` to `[…, rows]`.
    pub fn matmul_transposed(&self, x: &Array) -> Result<Array> {
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

    /// Rows by index, dequantized: ids `[…]` to `[…, columns]`.
    pub fn gather_rows(&self, ids: &Array) -> Result<Array> {
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

/// The model with its matrices quantized: those of the blocks, transposed to `[out, in]`, and the token embedding, which is
/// the output projection too. Position embeddings, biases and norms keep float32.
///
/// # Errors
/// Rows whose length is no multiple of the group size.
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
    /// The layer's, and `weight`, `scales` or `biases`; or as in the dense model.
    pub name: String,
    /// Of the array as it is stored.
    pub shape: Vec<i32>,
    /// Whether it is integers packed into uint32; any other is float32.
    pub packed: bool,
}

/// A quantized model's parameters, as [`quantize`] names and shapes them.
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

/// The layer whose matrix a parameter is, if it is quantized.
fn matrix_of(name: &str) -> Option<&str> {
    match name {
        "wte.weight" => Some("wte"),
        _ => linear_layer_of(name),
    }
}

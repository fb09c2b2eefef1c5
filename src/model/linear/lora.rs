//! LoRA (Hu et al. 2021): few trainable parameters beside a frozen matrix.

use mlx_rs::Array;
use mlx_rs::error::Result;

use crate::config::ModelConfig;
use crate::model::parameters::{Parameters, Scope};

/// The name of an adapter's first matrix, under its linear layer's.
pub const A: &str = "lora_A.weight";
/// The name of an adapter's second matrix.
pub const B: &str = "lora_B.weight";

/// An adapter of one linear layer.
pub struct LoraAdapter {
    /// `[rank, in]`.
    a: Array,
    /// `[out, rank]`.
    b: Array,
    scale: f32,
}

impl LoraAdapter {
    /// The adapter of the linear layer of these `parameters`, if the model has one for it.
    ///
    /// # Errors
    /// A missing parameter.
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Option<Self>> {
        match &config.lora {
            Some(lora) if lora.targets_layer(parameters.prefix()) => Ok(Some(Self {
                a: parameters.array(A)?,
                b: parameters.array(B)?,
                scale: lora.scale(),
            })),
            _ => Ok(None),
        }
    }

    /// x `[…, in]` to `scale · x Aᵀ Bᵀ`, `[…, out]`, which is added to the layer's own output.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        let scale = Array::from_f32(self.scale).as_dtype(x.dtype())?;
        x.matmul(self.a.transpose()?)? // […, rank]
            .multiply(scale)?
            .matmul(self.b.transpose()?)
    }
}

/// Merges the adapters into the base weights: a model without adapters that computes the same function.
///
/// # Errors
/// A missing parameter.
pub fn merge(config: &ModelConfig, parameters: &Parameters) -> Result<(ModelConfig, Parameters)> {
    let Some(lora) = &config.lora else {
        return Ok((config.clone(), parameters.clone()));
    };
    let scale = Array::from_f32(lora.scale());
    let mut entries = Vec::new();
    for (name, array) in parameters.iter().filter(|(name, _)| !is_adapter(name)) {
        let merged = match name.strip_suffix(".weight") {
            Some(linear) if lora.targets_layer(linear) => {
                let adapter = |part: &str| parameters.get(&format!("{linear}.{part}"));
                let product = adapter(B)?.matmul(adapter(A)?)?; // [out, in]
                array.add(product.transpose()?.multiply(&scale)?)?
            }
            _ => array.clone(),
        };
        entries.push((name.to_owned(), merged));
    }
    let model = ModelConfig {
        lora: None,
        ..config.clone()
    };
    Ok((model, Parameters::from_entries(entries)))
}

/// Whether a parameter is part of an adapter.
pub fn is_adapter(name: &str) -> bool {
    name.ends_with(A) || name.ends_with(B)
}

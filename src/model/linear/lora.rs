//! Low-rank adapters (Hu et al. 2021): few parameters beside a matrix that stays.

use mlx_rs::Array;
use mlx_rs::error::Result;

use crate::config::ModelConfig;
use crate::model::parameters::{Parameters, Scope};

/// The names of an adapter's two parameters, under its linear layer's.
pub const A: &str = "lora_A.weight";
pub const B: &str = "lora_B.weight";

/// An adapter of one linear layer.
pub struct LowRank {
    /// `[rank, in]`.
    a: Array,
    /// `[out, rank]`.
    b: Array,
    scale: f32,
}

impl LowRank {
    /// The adapter of the linear layer that `parameters` are of, if the model has one for it.
    pub fn new(parameters: &Scope, config: &ModelConfig) -> Result<Option<Self>> {
        match &config.lora {
            Some(lora) if lora.adapts(parameters.prefix()) => Ok(Some(Self {
                a: parameters.array(A)?,
                b: parameters.array(B)?,
                scale: lora.scale(),
            })),
            _ => Ok(None),
        }
    }

    // ANCHOR: forward
    /// What it adds: x `[…, in]` to `scale · x Aᵀ Bᵀ`, `[…, out]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        let scale = Array::from_f32(self.scale).as_dtype(x.dtype())?;
        x.matmul(self.a.transpose()?)? // […, rank]
            .multiply(scale)?
            .matmul(self.b.transpose()?)
    }
    // ANCHOR_END: forward
}

/// Adds the adapters to the matrices that they are beside: the same function in a model without them.
///
/// # Errors
/// Parameters that the model has not.
pub fn merge(config: &ModelConfig, parameters: &Parameters) -> Result<(ModelConfig, Parameters)> {
    let Some(lora) = &config.lora else {
        return Ok((config.clone(), parameters.clone()));
    };
    let scale = Array::from_f32(lora.scale());
    let mut entries = Vec::new();
    for (name, array) in parameters.iter().filter(|(name, _)| !is_adapter(name)) {
        let merged = match name.strip_suffix(".weight") {
            Some(linear) if lora.adapts(linear) => {
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

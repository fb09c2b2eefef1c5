//! `config.json` in the format of Hugging Face's GPT2Config.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::checkpoint::bos_eos;
use crate::config::{Architecture, Components, ModelConfig, Precision, Quantization};
use crate::disk::files;
use crate::model::norm;

/// Prefix of GPT-2's names in GPT2LMHeadModel.
pub const PREFIX: &str = "transformer.";

/// The fields of GPT2Config that are read; [`read_config`] rejects unsupported values. Other fields are ignored.
#[derive(Deserialize)]
struct Gpt2Config {
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    #[serde(default = "gelu_new")]
    activation_function: String,
    #[serde(default = "default_epsilon")]
    layer_norm_epsilon: f64,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    n_inner: Option<usize>,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default)]
    add_cross_attention: bool,
    #[serde(default)]
    resid_pdrop: f32,
    /// mlx-lm's.
    quantization: Option<QuantizationConfig>,
}

/// mlx-lm's description of a quantized model. Different settings for single layers are rejected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuantizationConfig {
    group_size: usize,
    bits: usize,
    #[serde(default = "affine")]
    mode: String,
}

fn affine() -> String {
    "affine".into()
}

fn gelu_new() -> String {
    "gelu_new".into()
}

fn default_epsilon() -> f64 {
    f64::from(norm::EPSILON)
}

fn yes() -> bool {
    true
}

/// The file's contents for a model, without bos and eos tokens. `precision` is the format of the weights.
pub fn config_json(model: &ModelConfig, precision: Precision) -> Value {
    // 0.2, not the nearest float32 in sixteen digits.
    let dropout = (f64::from(model.dropout) * 1e6).round() / 1e6;
    let mut config = json!({
        "model_type": model_type(model.architecture),
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": model.vocab_size,
        "n_positions": model.context,
        "n_ctx": model.context,
        "n_embd": model.embd,
        "n_layer": model.layers,
        "n_head": model.heads,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5, // norm::EPSILON in its short form
        "embd_pdrop": dropout,
        "attn_pdrop": dropout,
        "resid_pdrop": dropout,
        "bos_token_id": null,
        "eos_token_id": null,
        "tie_word_embeddings": true,
        "torch_dtype": precision.to_string()
    });
    if let Some(Quantization { group_size, bits }) = model.quantization {
        config["quantization"] = json!({ "group_size": group_size, "bits": bits });
    }
    if model.architecture == Architecture::Modern {
        config["parts"] = json!(model.components); // the name in files that were written before
    }
    if model.architecture != Architecture::Gpt2 {
        // Other programs must not load it as a GPT-2.
        config["architectures"] = json!([]);
        config["tie_word_embeddings"] = json!(model.architecture == Architecture::Modern && model.components.tie_head);
    }
    config
}

/// Prefix of the model types of architectures other than GPT-2.
const OWN: &str = "mlx_gpt_";

/// The `model_type` of an architecture; those that `transformers` does not know have a prefix.
fn model_type(architecture: Architecture) -> String {
    match architecture {
        Architecture::Gpt2 => "gpt2".into(),
        other => format!("{OWN}{}", other.name()),
    }
}

/// The architecture of a `model_type`, if it is supported.
fn architecture(model_type: &str) -> Option<Architecture> {
    let name = match model_type.strip_prefix(OWN) {
        Some(name) => name,
        None if model_type == Architecture::Gpt2.name() => model_type,
        None => return None,
    };
    let architecture = serde_json::from_value(json!(name)).ok()?;
    (self::model_type(architecture) == model_type).then_some(architecture)
}

/// Reads a model's configuration, with bos and eos ids from a `generation_config.json` beside it, if there is one.
///
/// # Errors
/// The file is missing or not JSON, the architecture is another, or an option of GPT-2 is unsupported.
pub fn read_config(path: &Path) -> Result<ModelConfig> {
    let shown = path.display();
    let value: Value = files::read_json(path, "valid JSON")?;
    let kind = value["model_type"].as_str().unwrap_or("none");
    let named = bos_eos::read(path.parent().unwrap_or(Path::new("")), &value)?;
    let architecture = architecture(kind)
        .with_context(|| format!("{shown} describes a model of type {kind}; only gpt2 is supported"))?;
    let components = match architecture {
        Architecture::Modern => Components::deserialize(&value["parts"])
            .with_context(|| format!("{shown} has no valid `parts`, the components of its model"))?,
        _ => Components::GPT2,
    };
    let config: Gpt2Config =
        serde_json::from_value(value).with_context(|| format!("{shown} is not a GPT-2 configuration"))?;
    ensure!(
        // Two names of the same function.
        ["gelu_new", "gelu_pytorch_tanh"].contains(&config.activation_function.as_str()),
        "{shown}: activation_function is {}; only gelu_new is supported",
        config.activation_function
    );
    ensure!(
        (config.layer_norm_epsilon - f64::from(norm::EPSILON)).abs() < 1e-9,
        "{shown}: layer_norm_epsilon is {}; only 1e-5 is supported",
        config.layer_norm_epsilon
    );
    ensure!(
        config.tie_word_embeddings || architecture != Architecture::Gpt2,
        "{shown}: the output head is not tied; only tied heads are supported"
    );
    ensure!(
        config.n_inner.is_none_or(|inner| inner == 4 * config.n_embd),
        "{shown}: n_inner is not four times n_embd, the only width supported"
    );
    ensure!(
        config.scale_attn_weights && !config.scale_attn_by_inverse_layer_idx && !config.add_cross_attention,
        "{shown} asks for another scaling of attention, or for cross-attention, which are not supported"
    );
    if let Some(QuantizationConfig { mode, .. }) = &config.quantization {
        ensure!(
            mode == "affine",
            "{shown}: its quantization is {mode}; only affine is supported"
        );
    }
    let quantization = config.quantization;
    let model = ModelConfig {
        architecture,
        components,
        layers: config.n_layer,
        heads: config.n_head,
        embd: config.n_embd,
        context: config.n_positions,
        vocab_size: config.vocab_size,
        dropout: config.resid_pdrop,
        lora: None,
        quantization: quantization.map(|QuantizationConfig { group_size, bits, .. }| Quantization { group_size, bits }),
        bos_eos: bos_eos::within(named, config.vocab_size).0,
    };
    model
        .validate()
        .with_context(|| format!("{shown} describes an impossible model"))?;
    Ok(model)
}

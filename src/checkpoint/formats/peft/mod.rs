//! LoRA adapters on disk, in the format of Hugging Face's `peft`.

mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checkpoint::tensors::{self, Hold, TensorFile};
use crate::config::{Lora, ModelConfig, Precision};
use crate::disk::files;
use crate::model::linear::lora::is_adapter;
use crate::model::parameters::Parameters;
use targets::{BlockIndices, ModuleFilter, TargetSelection};

const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// The same in older versions of `peft`.
const PICKLED: &str = "adapter_model.bin";

/// Prefix of GPT-2's names in peft's files.
const PREFIX: &str = "base_model.model.transformer.";

/// The fields of `adapter_config.json` that determine the model. All other options that change what adapters compute must be
/// off.
#[derive(Serialize, Deserialize)]
struct AdapterConfig {
    peft_type: String,
    task_type: Option<String>,
    /// The folder of the base model.
    base_model_name_or_path: String,
    r: usize,
    lora_alpha: f32,
    target_modules: ModuleFilter,
    #[serde(skip_serializing_if = "Option::is_none")]
    exclude_modules: Option<ModuleFilter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers_to_transform: Option<BlockIndices>,
    /// The adapters' product is scaled by alpha over the rank's root (Kalajdzievski 2023) instead of the rank.
    #[serde(default)]
    use_rslora: bool,
    /// Conv1D stores its weight transposed, as `[in, out]`.
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default = "none")]
    bias: String,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

fn none() -> String {
    "none".into()
}

/// Whether a folder contains adapters instead of a whole model.
pub fn is_adapter_folder(folder: &Path) -> bool {
    folder.join(ADAPTER_CONFIG).exists()
}

/// Possible paths of the base model, according to `adapter_config.json`: a relative path is tried from `folder` first.
///
/// # Errors
/// `adapter_config.json` is missing or invalid.
pub fn named_bases(folder: &Path) -> Result<Vec<PathBuf>> {
    let named = PathBuf::from(read_config(folder)?.base_model_name_or_path);
    Ok(vec![folder.join(&named), named])
}

/// Adds the adapters of `folder` to a model and its parameters.
///
/// # Errors
/// A file is missing or damaged, a tensor does not match the model, or the kind of adapter is unsupported.
pub fn read(folder: &Path, model: ModelConfig, parameters: &Parameters) -> Result<(ModelConfig, Parameters)> {
    let config = read_config(folder)?;
    let selection = TargetSelection {
        target: &config.target_modules,
        exclude: config.exclude_modules.as_ref(),
        blocks: config.layers_to_transform.as_ref(),
    };
    let targets = selection
        .targets(&model)
        .with_context(|| folder.join(ADAPTER_CONFIG).display().to_string())?;
    let alpha = match config.use_rslora {
        true => config.lora_alpha * (config.r as f32).sqrt(),
        false => config.lora_alpha,
    };
    let model = ModelConfig {
        lora: Some(Lora {
            rank: config.r,
            alpha,
            targets,
        }),
        ..model
    };
    model.validate().with_context(|| {
        format!(
            "{} describes impossible adapters",
            folder.join(ADAPTER_CONFIG).display()
        )
    })?;
    ensure!(
        folder.join(ADAPTER_WEIGHTS).exists() || !folder.join(PICKLED).exists(),
        "{} has no {ADAPTER_WEIGHTS}, only {PICKLED}, a pickle, which can run code and is not supported; load the adapters in peft and save them with save_pretrained",
        folder.display()
    );
    let file = TensorFile::open(&folder.join(ADAPTER_WEIGHTS))?;
    let canonical_name = |stored: &str| Some(stored.strip_prefix(PREFIX).unwrap_or(stored).to_owned());
    let adapters = tensors::read(
        &[file],
        canonical_name,
        &tensors::of_layout(&model, is_adapter),
        Hold::Copied,
    )?;
    Ok((model, parameters.union(&adapters)))
}

/// Writes the adapters among `parameters`; `base` is the folder of the base model.
///
/// # Errors
/// The files cannot be written.
pub fn write(folder: &Path, lora: &Lora, parameters: &Parameters, base: &Path) -> Result<()> {
    let config = AdapterConfig {
        peft_type: "LORA".into(),
        task_type: Some("CAUSAL_LM".into()),
        base_model_name_or_path: base
            .to_str()
            .with_context(|| format!("{} is not UTF-8; rename it", base.display()))?
            .to_owned(),
        r: lora.rank,
        lora_alpha: lora.alpha,
        target_modules: ModuleFilter::Names(lora.targets.clone()),
        exclude_modules: None,
        layers_to_transform: None,
        use_rslora: false,
        fan_in_fan_out: true,
        bias: none(),
        others: BTreeMap::from([
            ("inference_mode".into(), true.into()),
            ("lora_dropout".into(), 0.0.into()),
        ]),
    };
    fs::write(folder.join(ADAPTER_CONFIG), serde_json::to_string_pretty(&config)?)?;
    let adapters = parameters.iter().filter(|(name, _)| is_adapter(name));
    tensors::write(
        &folder.join(ADAPTER_WEIGHTS),
        Precision::Float32,
        adapters.map(|(name, array)| (format!("{PREFIX}{name}"), array)),
    )
}

fn read_config(folder: &Path) -> Result<AdapterConfig> {
    let path = folder.join(ADAPTER_CONFIG);
    let shown = path.display();
    let value: Value = files::read_json(&path, "valid JSON")?;
    ensure!(
        value.get("peft_type").is_some() || value.get("lora_parameters").is_none(),
        "{shown} is mlx-lm's, whose adapters are not supported; merge them into their model with mlx_lm.fuse and import that"
    );
    let config: AdapterConfig =
        serde_json::from_value(value).with_context(|| format!("{shown} is not a configuration of LoRA adapters"))?;
    ensure!(
        config.peft_type == "LORA",
        "{shown}: peft_type is {}; only LORA is supported",
        config.peft_type
    );
    ensure!(config.r >= 1, "{shown}: r is 0; it must be at least 1");
    ensure!(
        config.lora_alpha > 0.0 && config.lora_alpha.is_finite(),
        "{shown}: lora_alpha is {}; it must be a number above 0",
        config.lora_alpha
    );
    ensure!(
        config.bias == "none",
        "{shown}: bias is {}; only none is supported",
        config.bias
    );
    for option in [
        "use_dora",
        "use_qalora",
        "use_bdlora",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "lora_bias",
        "layer_replication",
        "target_parameters",
        "trainable_token_indices",
        "alora_invocation_tokens",
        "arrow_config",
        "kasa_config",
        "monteclora_config",
    ] {
        let value = config.others.get(option).unwrap_or(&Value::Null);
        let off = match value {
            Value::Null => true,
            Value::Bool(on) => !on,
            Value::Object(entries) => entries.is_empty(),
            Value::Array(entries) => entries.is_empty(),
            _ => false,
        };
        ensure!(off, "{shown}: {option} is {value}, which is not supported");
    }
    let pattern = config.others.get("layers_pattern").unwrap_or(&Value::Null);
    ensure!(
        [json!(null), json!([]), json!(""), json!("h"), json!(["h"])].contains(pattern),
        "{shown}: layers_pattern is {pattern}; GPT-2's blocks are under h"
    );
    // Other initialisations modify the base weights.
    let init = config.others.get("init_lora_weights").unwrap_or(&Value::Null);
    ensure!(
        init.is_null() || init.is_boolean() || init == "gaussian",
        "{shown}: init_lora_weights is {init}, which is not supported"
    );
    Ok(config)
}

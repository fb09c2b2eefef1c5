//! A model's weights in a folder: in Hugging Face's names, in one file or in shards, or in mlx-lm's for a quantized model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::tensors::{self, Expected, Form, Kind, TensorFile};
use crate::config::ModelConfig;
use crate::disk::files;
use crate::model::init::layout;
use crate::model::linear::lora::is_adapter;
use crate::model::linear::quantized::quantized_layout;
use crate::model::parameters::Parameters;

pub const MODEL: &str = "model.safetensors";
/// The output head, where it is not the token embedding.
const HEAD: &str = "lm_head.weight";
const INDEX: &str = "model.safetensors.index.json";

/// What files write before GPT-2's own names: Hugging Face's GPT2LMHeadModel, and mlx-lm.
const PREFIXES: [&str; 2] = ["transformer.", MLX_LM];
/// mlx-lm's prefix.
pub const MLX_LM: &str = "model.";

/// Hugging Face's `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Reads the weights of `model`; adapters are not among them.
///
/// Beside the model's own tensors a file may have the attention masks that older versions of `transformers` wrote, and
/// the head, where it is the token embedding once more.
///
/// # Errors
/// A file that is missing, cut short or damaged; a tensor missing, left over, of another shape or in another file than
/// the index says; a head that is not the token embedding.
pub fn read(folder: &Path, model: &ModelConfig) -> Result<Parameters> {
    let files = open(folder)?;
    let stored = files
        .iter()
        .flat_map(TensorFile::names)
        .find(|name| name.starts_with(MLX_LM));
    if let (Some(name), None) = (stored, model.quantization) {
        bail!(
            "{} has a tensor {name}, in mlx-lm's names without its quantization, which is not read; convert the original model instead",
            folder.display()
        );
    }
    let expected = expected(model);
    if expected.contains_key(HEAD) {
        return tensors::read(&files, |stored| Some(stored.to_owned()), &expected);
    }
    check_head(&files)?;
    tensors::read(&files, parameter_name, &expected)
}

/// The names and shapes of a model's weights.
pub fn expected(model: &ModelConfig) -> Expected {
    match model.quantization {
        Some(quantization) => quantized_layout(model, quantization)
            .into_iter()
            .map(|spec| {
                let kind = if spec.packed { Kind::Packed } else { Kind::Float };
                (
                    spec.name,
                    Form {
                        shape: spec.shape,
                        kind,
                    },
                )
            })
            .collect(),
        None => layout(model)
            .into_iter()
            .filter(|spec| !is_adapter(&spec.name))
            .map(|spec| (spec.name, Form::float(spec.shape)))
            .collect(),
    }
}

fn open(folder: &Path) -> Result<Vec<TensorFile>> {
    if folder.join(MODEL).exists() {
        return Ok(vec![TensorFile::open(&folder.join(MODEL))?]);
    }
    if folder.join(INDEX).exists() {
        return open_shards(folder);
    }
    let pickled = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .find(|name| name.starts_with("pytorch_model") || name.ends_with(".ckpt.index") || name.ends_with(".h5"));
    match pickled {
        Some(name) => bail!(
            "{} has no {MODEL}, only {name}, which is not read; save the model with transformers' save_pretrained and import that folder",
            folder.display()
        ),
        None => bail!("{} cannot be read: there is no such file", folder.join(MODEL).display()),
    }
}

fn open_shards(folder: &Path) -> Result<Vec<TensorFile>> {
    let path = folder.join(INDEX);
    let shown = path.display();
    let bytes = files::read(&path).with_context(|| format!("{shown} cannot be read"))?;
    let index: Index =
        serde_json::from_slice(&bytes).with_context(|| format!("{shown} is not an index of safetensors files"))?;
    ensure!(!index.weight_map.is_empty(), "{shown} lists no tensors");
    let mut shards: BTreeMap<&str, TensorFile> = BTreeMap::new();
    for (tensor, name) in &index.weight_map {
        ensure!(
            Path::new(name).file_name() == Some(name.as_ref()),
            "{shown}: {name:?} is not the name of a file in this folder"
        );
        if !shards.contains_key(name.as_str()) {
            shards.insert(name, TensorFile::open(&folder.join(name))?);
        }
        ensure!(
            shards[name.as_str()].dtype(tensor).is_ok(),
            "{shown} says that {tensor} is in {name}, where it is not"
        );
    }
    for (name, shard) in &shards {
        let elsewhere = |tensor: &String| index.weight_map.get(tensor).map(String::as_str) != Some(*name);
        if let Some(tensor) = shard.names().into_iter().find(elsewhere) {
            bail!(
                "{} has a tensor {tensor} that {INDEX} does not list there",
                shard.path().display()
            );
        }
    }
    Ok(shards.into_values().collect())
}

/// GPT-2's own name of a file's tensor; none for the head and for attention masks, which are no parameters.
fn parameter_name(stored: &str) -> Option<String> {
    let name = without_prefix(stored);
    let mask = name.starts_with("h.") && (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"));
    (name != HEAD && !mask).then(|| name.to_owned())
}

fn without_prefix(stored: &str) -> &str {
    let mut prefixes = PREFIXES.iter();
    prefixes
        .find_map(|prefix| stored.strip_prefix(prefix))
        .unwrap_or(stored)
}

/// A tied head may be written out, as the token embedding once more.
fn check_head(files: &[TensorFile]) -> Result<()> {
    let find = |wanted: &str| {
        files.iter().find_map(|file| {
            let stored = file
                .names()
                .into_iter()
                .find(|stored| without_prefix(stored) == wanted)?;
            Some((file, stored))
        })
    };
    let (Some((head_file, head)), Some((file, embedding))) = (find(HEAD), find("wte.weight")) else {
        return Ok(());
    };
    ensure!(
        head_file.dtype(&head)? == file.dtype(&embedding)?
            && head_file.bytes(&head)?[..] == file.bytes(&embedding)?[..],
        "{}: {head} is not the token embedding {embedding}; only tied heads are supported",
        head_file.path().display()
    );
    Ok(())
}

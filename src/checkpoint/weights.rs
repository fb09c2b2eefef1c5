//! Reads a model's weights, in one file or in shards, with Hugging Face's or mlx-lm's names.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde::Deserialize;

use super::formats::{hugging_face, mlx_lm};
use super::tensors::{self, Hold, TensorFile, TensorKind};
use super::{MODEL_CONFIG, unsupported};
use crate::compute::operations;
use crate::config::{Architecture, ModelConfig};
use crate::disk::files;
use crate::model::linear::linear_layer_of;
use crate::model::linear::lora::is_adapter;
use crate::model::parameters::Parameters;

/// The file of a model's weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The output head, if it is not tied.
const HEAD: &str = "lm_head.weight";
/// Which of several files has which tensor, where the weights are in shards.
pub(super) const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// The token embedding, which is also a tied head.
const EMBEDDING: &str = "wte.weight";

/// Prefixes of GPT-2's names in files: of Hugging Face's GPT2LMHeadModel, and of mlx-lm.
const PREFIXES: [&str; 2] = [hugging_face::PREFIX, mlx_lm::PREFIX];

/// Hugging Face's `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Reads the weights of `model`, without adapters. Those of GPT-2's matrices that are mapped stay in 16 bits, if they are stored
/// so and MLX multiplies by them.
///
/// A tied head may be stored in addition to the token embedding, or instead of it. Attention masks, which older versions of
/// `transformers` wrote, are ignored.
///
/// # Errors
/// A file is missing, truncated or damaged; a tensor is missing, unexpected, of another shape or in another file than the
/// index says; a stored head differs from the token embedding that it is tied to.
pub fn read(folder: &Path, model: &ModelConfig, hold: Hold) -> Result<Parameters> {
    let files = open(folder)?;
    let mut expected = tensors::of_layout(model, |name| !is_adapter(name));
    if expected.contains_key(HEAD) {
        return tensors::read(&files, |stored| Some(stored.to_owned()), &expected, hold);
    }
    check_head(&files)?;
    let has = |name: &str| find(&files, name).is_some();
    let head_alone = !has(EMBEDDING) && has(HEAD);
    let name_of = |stored: &str| match without_prefix(stored) {
        HEAD if head_alone => Some(EMBEDDING.to_owned()),
        _ => parameter_name(stored),
    };
    let stored = files.iter().flat_map(TensorFile::names).collect::<Vec<_>>();
    if stored.iter().any(|name| name.starts_with(mlx_lm::PREFIX)) {
        let tensors = tensors::read(&files, name_of, &mlx_lm::expected(model, has), hold)?;
        return Ok(mlx_lm::to_native(model, tensors)?);
    }
    ensure!(
        model.quantization.is_none(),
        "{} has a quantization, which is only supported with mlx-lm's tensor names",
        folder.join(MODEL_CONFIG).display()
    );
    if model.architecture == Architecture::Gpt2 && operations::multiplies_by_16_bits() {
        for (name, spec) in &mut expected {
            if name == EMBEDDING || linear_layer_of(name).is_some() {
                spec.kind = TensorKind::Matrix;
            }
        }
    }
    tensors::read(&files, name_of, &expected, hold)
}

fn open(folder: &Path) -> Result<Vec<TensorFile>> {
    if folder.join(WEIGHTS_FILE).exists() {
        return Ok(vec![TensorFile::open(&folder.join(WEIGHTS_FILE))?]);
    }
    if folder.join(WEIGHTS_INDEX).exists() {
        return open_shards(folder);
    }
    match unsupported::hint(folder) {
        Some(hint) => bail!("{} has no {WEIGHTS_FILE}: {hint}", folder.display()),
        None => bail!("{} does not exist", folder.join(WEIGHTS_FILE).display()),
    }
}

fn open_shards(folder: &Path) -> Result<Vec<TensorFile>> {
    let path = folder.join(WEIGHTS_INDEX);
    let shown = path.display();
    let index: Index = files::read_json(&path, "an index of safetensors files")?;
    ensure!(!index.weight_map.is_empty(), "{shown} lists no tensors");
    let mut shards: BTreeMap<&str, TensorFile> = BTreeMap::new();
    for (tensor, name) in &index.weight_map {
        files::ensure_plain_name(name, &path)?;
        if !shards.contains_key(name.as_str()) {
            shards.insert(name, TensorFile::open(&folder.join(name))?);
        }
        ensure!(
            shards[name.as_str()].dtype(tensor).is_ok(),
            "{shown} says that {tensor} is in {name}, which does not contain it"
        );
    }
    for (name, shard) in &shards {
        let elsewhere = |tensor: &String| index.weight_map.get(tensor).map(String::as_str) != Some(*name);
        if let Some(tensor) = shard.names().into_iter().find(elsewhere) {
            bail!(
                "{} has a tensor {tensor} that {WEIGHTS_INDEX} does not list there",
                shard.path().display()
            );
        }
    }
    Ok(shards.into_values().collect())
}

/// GPT-2's name of a stored tensor; `None` for a tied head and attention masks, which are not parameters.
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

/// The tensor of that name, with any prefix.
fn find<'a>(files: &'a [TensorFile], wanted: &str) -> Option<(&'a TensorFile, String)> {
    files.iter().find_map(|file| {
        let names = file.names();
        let stored = names.into_iter().find(|stored| without_prefix(stored) == wanted)?;
        Some((file, stored))
    })
}

/// Checks that a stored tied head equals the token embedding.
fn check_head(files: &[TensorFile]) -> Result<()> {
    let (Some((head_file, head)), Some((file, embedding))) = (find(files, HEAD), find(files, EMBEDDING)) else {
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

//! The configuration of a run, from what was given: which device there is, which checkpoint is meant, where paths lead.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::runs::find_checkpoint;
use crate::config::{DEFAULT_CORPUS, Device, Preset, Settings, Start, TrainConfig};
use crate::model::init::parameter_count;

/// The configuration of a new run: `options` over `file` over the preset. Without a preset, the device decides; without a
/// device, MLX does.
///
/// # Errors
/// A setting that no configuration has, or a path where nothing is.
pub fn configure(options: &Settings, file: &Settings, preset: Option<Preset>) -> Result<(TrainConfig, Preset)> {
    let device = match options.device(file)? {
        Some(device) => device,
        None => Device::current()?,
    };
    let start = options.init_from(file)?.map(|path| start_from(Path::new(&path)));
    let (mut config, preset) = options.resolve(file, preset, device, start.transpose()?.as_ref())?;
    config.corpus = absolute_corpus(&config.corpus)?;
    config.tokenizer = absolute_tokenizer(&config.tokenizer)?;
    Ok((config, preset))
}

/// The configuration of a run that goes on: `before` with `options`.
///
/// # Errors
/// As [`configure`].
pub fn configure_resumed(options: &Settings, before: &TrainConfig) -> Result<TrainConfig> {
    let mut config = options.resume(before)?;
    if options.has("corpus") {
        config.corpus = absolute_corpus(&config.corpus)?;
    }
    // That of a run is in its checkpoints, wherever it came from.
    if options.has("tokenizer") {
        config.tokenizer = absolute_tokenizer(&config.tokenizer)?;
    }
    Ok(config)
}

fn start_from(path: &Path) -> Result<Start> {
    let folder = find_checkpoint(Some(path))?;
    let model = Checkpoint::load_model_config(&folder)?;
    Ok(Start {
        folder: absolute(&folder, "checkpoint")?,
        parameters: parameter_count(&model),
        model,
    })
}

/// Runs remember where their text is, whatever folder they are resumed from.
///
/// # Errors
/// There is nothing, or its name is not UTF-8.
pub fn absolute_corpus(corpus: &str) -> Result<String> {
    if corpus == DEFAULT_CORPUS {
        return Ok(corpus.into());
    }
    absolute(Path::new(corpus), "corpus")
}

fn absolute_tokenizer(tokenizer: &str) -> Result<String> {
    match tokenizer {
        "char" | "gpt2" | "cl100k" => Ok(tokenizer.into()),
        path => absolute(Path::new(path), "tokenizer"),
    }
}

fn absolute(path: &Path, what: &str) -> Result<String> {
    let real: PathBuf = path
        .canonicalize()
        .with_context(|| format!("{what} {} cannot be opened; check the path", path.display()))?;
    real.into_os_string()
        .into_string()
        .map_err(|path| anyhow::anyhow!("{what} {} has a name that is not UTF-8; rename it", path.display()))
}

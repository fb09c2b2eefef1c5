//! Resolves the configuration of a run on this machine: the device, the checkpoint to start from, absolute paths.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::runs::find_checkpoint;
use crate::config::{ConfigOverrides, DEFAULT_CORPUS, Device, Preset, StartCheckpoint, TrainConfig};
use crate::model::init::parameter_count;

/// The configuration of a new run: `options` override `file`, which overrides the preset. The default preset depends on the
/// device; the default device is MLX's.
///
/// # Errors
/// An unknown key, an invalid value, or a path that does not exist.
pub fn configure(
    options: &ConfigOverrides,
    file: &ConfigOverrides,
    preset: Option<Preset>,
) -> Result<(TrainConfig, Preset)> {
    let device = match options.device(file)? {
        Some(device) => device,
        None => Device::current()?,
    };
    let start = options.init_from(file)?.map(|path| start_from(Path::new(&path)));
    let (mut config, preset) = options.resolve(file, preset, device, start.transpose()?.as_ref())?;
    if let Some(chat) = &config.chat {
        config.chat = Some(absolute(Path::new(chat), "chat")?);
    } else if config.task.is_none() && config.preferences.is_none() {
        config.corpus = absolute_corpus(&config.corpus)?;
    }
    config.preferences = absolute_preferences(config.preferences)?;
    config.tokenizer = absolute_tokenizer(&config.tokenizer)?;
    Ok((config, preset))
}

/// The configuration of a resumed run: `before` with `options`.
///
/// # Errors
/// As [`configure`].
pub fn configure_resumed(options: &ConfigOverrides, before: &TrainConfig) -> Result<TrainConfig> {
    let mut config = options.resume(before)?;
    if options.has("corpus") {
        config.corpus = absolute_corpus(&config.corpus)?;
    }
    if options.has("preferences") {
        config.preferences = absolute_preferences(config.preferences)?;
    }
    if let Some(chat) = config.chat.as_ref().filter(|_| options.has("chat")) {
        config.chat = Some(absolute(Path::new(chat), "chat")?);
    }
    // Otherwise it is read from the checkpoint.
    if options.has("tokenizer") {
        config.tokenizer = absolute_tokenizer(&config.tokenizer)?;
    }
    Ok(config)
}

fn start_from(path: &Path) -> Result<StartCheckpoint> {
    let folder = find_checkpoint(Some(path))?;
    let model = Checkpoint::load_model_config(&folder)?;
    Ok(StartCheckpoint {
        folder: absolute(&folder, "checkpoint")?,
        parameters: parameter_count(&model),
        model,
    })
}

/// The absolute path of a corpus, so that a run can be resumed from any folder.
///
/// # Errors
/// It does not exist, or its name is not UTF-8.
pub fn absolute_corpus(corpus: &str) -> Result<String> {
    if corpus == DEFAULT_CORPUS {
        return Ok(corpus.into());
    }
    absolute(Path::new(corpus), "corpus")
}

fn absolute_preferences(file: Option<String>) -> Result<Option<String>> {
    file.map(|file| absolute(Path::new(&file), "preferences")).transpose()
}

fn absolute_tokenizer(tokenizer: &str) -> Result<String> {
    match tokenizer {
        "char" | "gpt2" | "cl100k" => Ok(tokenizer.into()),
        "cl100k_base" => Ok("cl100k".into()), // tiktoken's name
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokenizers_by_name_are_no_paths() {
        for (name, recorded) in [("gpt2", "gpt2"), ("cl100k", "cl100k"), ("cl100k_base", "cl100k")] {
            assert_eq!(absolute_tokenizer(name).unwrap(), recorded);
        }
        assert!(absolute_tokenizer("p50k_base").is_err());
    }
}

//! Models from Hugging Face's hub, into the cache that Hugging Face's own programs use.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hf_hub::Cache;
use hf_hub::api::Progress;
use hf_hub::api::sync::ApiBuilder;

use crate::disk::transfer::Transfer;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::folder::is_tokenizer_file;

/// What OpenAI's four models are called there.
const GPT2: [(&str, &str); 4] = [
    ("gpt2", "openai-community/gpt2"),
    ("gpt2-medium", "openai-community/gpt2-medium"),
    ("gpt2-large", "openai-community/gpt2-large"),
    ("gpt2-xl", "openai-community/gpt2-xl"),
];

const WEIGHTS: &str = "model.safetensors";

/// Times that a download is taken up again after the connection broke.
const RETRIES: usize = 3;

/// The hub's name for a model, if `name` can be one: one of OpenAI's four, or any `owner/model`.
pub fn repository(name: &str) -> Option<&str> {
    let published = GPT2.iter().find(|(short, _)| *short == name);
    let is_name = |part: &str| !part.is_empty() && !part.starts_with('.');
    match (published, name.split_once('/')) {
        (Some((_, repository)), _) => Some(repository),
        (None, Some((owner, model))) if is_name(owner) && is_name(model) && !model.contains('/') => Some(name),
        _ => None,
    }
}

/// The folder of a model's files that an import reads, if Hugging Face's cache has them all.
pub fn cached(repository: &str) -> Option<PathBuf> {
    let file = Cache::from_env().model(repository.to_owned()).get("config.json")?;
    let folder = file.parent().filter(|folder| is_complete(folder))?;
    Some(folder.to_owned())
}

/// The files of a model that an import reads: their folder, after downloading what the cache has not. A download that was
/// interrupted goes on where it stopped. Without a network, a model that is in the cache is still found. With
/// `HF_HUB_OFFLINE` set, as Hugging Face's own programs understand it, nothing but the cache is asked. `transfer` hears how
/// it goes.
///
/// # Errors
/// No network, no such model, or a model without safetensors.
pub fn download(repository: &str, mut transfer: impl Transfer) -> Result<PathBuf> {
    let cache = Cache::from_env().model(repository.to_owned());
    let failed = || {
        format!(
            "{repository} cannot be downloaded; check the name and the network, or fetch its config.json, model.safetensors and tokenizer.json elsewhere and import their folder"
        )
    };
    if is_offline() {
        return cached(repository).with_context(|| {
            format!(
                "{repository} is not in the cache, and HF_HUB_OFFLINE forbids to download it; unset that, or import a folder"
            )
        });
    }
    let api = ApiBuilder::from_env()
        .with_retries(RETRIES)
        .build()
        .with_context(failed)?;
    let model = api.model(repository.to_owned());
    let info = match model.info() {
        Ok(info) => info,
        Err(error) => {
            return match cached(repository) {
                Some(folder) => Ok(folder),
                None => Err(error).with_context(failed),
            };
        }
    };
    let names: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    ensure!(
        names
            .iter()
            .any(|name| is_wanted(name) && name.ends_with(".safetensors")),
        "{repository} has no {WEIGHTS}, the only format that is read"
    );
    let mut last = None;
    for name in names.into_iter().filter(|name| is_wanted(name)) {
        // The cache may hold an older revision, which is not to be mixed with this one.
        let cached = cache
            .get(name)
            .filter(|file| file.parent().is_some_and(|folder| folder.ends_with(&info.sha)));
        last = Some(match cached {
            Some(path) => path,
            None => model
                .download_with_progress(name, Watched(name, &mut transfer))
                .with_context(failed)?,
        });
    }
    folder_of(&last.with_context(failed)?)
}

/// Whether a download left all that an import reads.
fn is_complete(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    (has(WEIGHTS) || has("model.safetensors.index.json")) && Tokenizer::is_in(folder)
}

fn is_offline() -> bool {
    let value = std::env::var("HF_HUB_OFFLINE").unwrap_or_default().to_uppercase();
    ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
}

fn folder_of(file: &Path) -> Result<PathBuf> {
    let folder = file.parent().context("a downloaded file is in no folder")?;
    Ok(folder.to_owned())
}

/// Of a model's files those that an import reads, not those of other frameworks.
fn is_wanted(name: &str) -> bool {
    let weights =
        name.starts_with("model") && (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"));
    let configuration = ["config.json", "generation_config.json"].contains(&name);
    !name.contains('/') && (weights || configuration || is_tokenizer_file(name))
}

/// A file, for the hub's library to tell of.
struct Watched<'a, T>(&'a str, &'a mut T);

impl<T: Transfer> Progress for Watched<'_, T> {
    fn init(&mut self, size: usize, _name: &str) {
        self.1.begin(self.0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.1.received(size as u64);
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models() {
        assert_eq!(repository("gpt2-xl"), Some("openai-community/gpt2-xl"));
        assert_eq!(repository("distilbert/distilgpt2"), Some("distilbert/distilgpt2"));
        for other in ["gpt3", "./folder", "../up", "a/b/c", "/root", "a/", ""] {
            assert_eq!(repository(other), None, "{other}");
        }
    }

    #[test]
    fn only_files_that_are_read_are_fetched() {
        for wanted in [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "merges.txt",
        ] {
            assert!(is_wanted(wanted), "{wanted}");
        }
        for other in [
            "pytorch_model.bin",
            "onnx/model.safetensors",
            "flax_model.msgpack",
            "README.md",
            "64.tflite",
        ] {
            assert!(!is_wanted(other), "{other}");
        }
    }
}

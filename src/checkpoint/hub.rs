//! Downloads models from the Hugging Face Hub into the cache that Hugging Face's own programs use.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hf_hub::Cache;
use hf_hub::api::Progress;
use hf_hub::api::sync::ApiBuilder;

use super::bos_eos::GENERATION_CONFIG;
use super::weights::{WEIGHTS_FILE, WEIGHTS_INDEX};
use crate::disk::download_progress::DownloadProgress;
use crate::disk::hash::sha256_of_blocks;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::folder::{MODEL_CONFIG, is_tokenizer_file};

/// The repositories of OpenAI's four models.
const GPT2: [(&str, &str); 4] = [
    ("gpt2", "openai-community/gpt2"),
    ("gpt2-medium", "openai-community/gpt2-medium"),
    ("gpt2-large", "openai-community/gpt2-large"),
    ("gpt2-xl", "openai-community/gpt2-xl"),
];

/// How many times a download is resumed after a broken connection.
const RETRIES: usize = 3;

/// The hub's repository for `name`, if it is one of OpenAI's four models or has the form `owner/model`.
pub fn repository(name: &str) -> Option<&str> {
    let published = GPT2.iter().find(|(short, _)| *short == name);
    let is_name = |part: &str| !part.is_empty() && !part.starts_with('.');
    match (published, name.split_once('/')) {
        (Some((_, repository)), _) => Some(repository),
        (None, Some((owner, model))) if is_name(owner) && is_name(model) && !model.contains('/') => Some(name),
        _ => None,
    }
}

/// The folder of a model's files, if Hugging Face's cache has all that an import reads.
pub fn cached(repository: &str) -> Option<PathBuf> {
    let file = Cache::from_env().model(repository.to_owned()).get(MODEL_CONFIG)?;
    let folder = file.parent().filter(|folder| is_complete(folder))?;
    Some(folder.to_owned())
}

/// Downloads the files of a model that an import reads, unless they are cached, and returns their folder. An interrupted
/// download is resumed. Without a network, a cached model is still found. With `HF_HUB_OFFLINE` set, as Hugging Face's own
/// programs understand it, only the cache is used. `progress` receives its events.
///
/// # Errors
/// No network, no such model, or a model without safetensors.
pub fn download(repository: &str, mut progress: impl DownloadProgress) -> Result<PathBuf> {
    if is_offline() {
        return cached(repository).with_context(|| {
            format!(
                "{repository} is not in the cache, and HF_HUB_OFFLINE forbids downloading it; unset that, or import a folder"
            )
        });
    }
    let (sender, events) = channel();
    let name = repository.to_owned();
    // In a thread, because the hub's library waits forever for a silent server. The thread ends with the process.
    thread::spawn(move || {
        let folder = fetch(&name, &sender);
        let _ = sender.send(DownloadEvent::Done(folder));
    });
    let timeout = timeout();
    loop {
        match events.recv_timeout(timeout) {
            Ok(DownloadEvent::Begin(name, bytes)) => progress.begin(&name, bytes),
            Ok(DownloadEvent::Received(bytes)) => progress.received(bytes),
            Ok(DownloadEvent::Hashing) => {}
            Ok(DownloadEvent::Done(folder)) => return folder,
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the download of {repository} ended early, by a fault of this program's; run this again")
            }
            Err(RecvTimeoutError::Timeout) => {
                return cached(repository).with_context(|| {
                    format!(
                        "{}: no data for {} s (HF_HUB_DOWNLOAD_TIMEOUT)",
                        failed(repository),
                        timeout.as_secs()
                    )
                });
            }
        }
    }
}

/// Events of a download.
enum DownloadEvent {
    Begin(String, u64),
    Received(u64),
    /// A block of a file was read to compare its hash: there is no silence to time out.
    Hashing,
    Done(Result<PathBuf>),
}

/// Maximum time without data: as for Hugging Face's own programs, or else 30 s.
fn timeout() -> Duration {
    let seconds = std::env::var("HF_HUB_DOWNLOAD_TIMEOUT");
    let seconds = seconds.ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.filter(|&seconds| seconds > 0).unwrap_or(30))
}

fn failed(repository: &str) -> String {
    format!(
        "{repository} cannot be downloaded; check the name and the network, or fetch its config.json, model.safetensors and tokenizer.json elsewhere and import their folder"
    )
}

fn fetch(repository: &str, sender: &Sender<DownloadEvent>) -> Result<PathBuf> {
    let cache = Cache::from_env().model(repository.to_owned());
    let failed = || failed(repository);
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
        "{repository} has no {WEIGHTS_FILE}, the only supported format"
    );
    let mut last = None;
    for name in names.into_iter().filter(|name| is_wanted(name)) {
        // The cache may have an older revision, which must not be mixed with this one.
        let cached = cache
            .get(name)
            .filter(|file| file.parent().is_some_and(|folder| folder.ends_with(&info.sha)));
        let file = match cached {
            Some(path) => path,
            None => model
                .download_with_progress(name, HubProgress(sender))
                .with_context(failed)?,
        };
        // Also a cached one: the process that fetched it may have been ended before it had compared it.
        verify(name, &file, || {
            let _ = sender.send(DownloadEvent::Hashing);
        })?;
        last = Some(file);
    }
    folder_of(&last.with_context(failed)?)
}

/// Checks a file in the cache against its hash, which the hub provides for large files and the cache uses as their name.
/// `on_block` is called after each block that was read.
///
/// # Errors
/// They differ; the file is removed, so that it is downloaded again.
fn verify(name: &str, file: &Path, on_block: impl FnMut()) -> Result<()> {
    let blob = file
        .canonicalize()
        .with_context(|| format!("{} cannot be read", file.display()))?;
    let hash = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_sha256 = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_sha256 && sha256_of_blocks(&blob, on_block)? != hash {
        let _ = fs::remove_file(file).and_then(|()| fs::remove_file(&blob));
        bail!(
            "{name} was damaged in transit or in Hugging Face's cache: its SHA-256 is not {hash}, as the hub says; run this again to download it again"
        );
    }
    Ok(())
}

/// Whether a folder has weights and a tokenizer; shards that an index names are checked when they are read.
fn is_complete(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    (has(WEIGHTS_FILE) || has(WEIGHTS_INDEX)) && Tokenizer::is_in(folder)
}

fn is_offline() -> bool {
    let value = std::env::var("HF_HUB_OFFLINE").unwrap_or_default().to_uppercase();
    ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
}

fn folder_of(file: &Path) -> Result<PathBuf> {
    let folder = file.parent().context("a downloaded file has no folder")?;
    Ok(folder.to_owned())
}

/// Whether an import reads the file of that name: no weights of other frameworks.
fn is_wanted(name: &str) -> bool {
    let weights =
        name.starts_with("model") && (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"));
    let configuration = [MODEL_CONFIG, GENERATION_CONFIG].contains(&name);
    !name.contains('/') && (weights || configuration || is_tokenizer_file(name))
}

/// Forwards the hub library's progress. Errors are ignored: the receiver may be gone.
struct HubProgress<'a>(&'a Sender<DownloadEvent>);

impl Progress for HubProgress<'_> {
    fn init(&mut self, size: usize, name: &str) {
        let _ = self.0.send(DownloadEvent::Begin(name.to_owned(), size as u64));
    }

    fn update(&mut self, size: usize) {
        let _ = self.0.send(DownloadEvent::Received(size as u64));
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

//! The base model of LoRA adapters: identified by the hash of its weights, and copied into the run's folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::formats::peft;
use super::run::BASE;
use super::weights::WEIGHTS_FILE;
use super::{MODEL_CONFIG, TOKENIZER, TOKENIZER_CONFIG, hashes, state};
use crate::disk::durable;
use crate::disk::hash::sha256_of_file;
use crate::disk::hint::with_hint;
use crate::tokenizer::folder::CHAT_TEMPLATE;

/// The hash of the base weights in `folder`.
///
/// # Errors
/// They are not in a single file.
pub fn hash(folder: &Path) -> Result<String> {
    sha256_of_file(&folder.join(WEIGHTS_FILE))
}

/// The folder of the base model of the adapters in `folder`: looked for in the run, then at the path in
/// adapter_config.json. If the hash of its weights was recorded, only a model with that hash is accepted.
///
/// # Errors
/// It is missing, or its weights are different ones.
pub fn find(folder: &Path) -> Result<PathBuf> {
    let named = peft::named_bases(folder)?;
    let Some(hash_of_base) = hashes::hash_of_base(folder)? else {
        let existing = named.iter().find(|base| base.is_dir()).or(named.last());
        let base = existing.context("adapter_config.json names no model")?;
        if !base.is_dir() {
            bail!(
                "the base model of the adapters in {} is missing: {}; restore it, or import it and set its path in adapter_config.json",
                folder.display(),
                base.display()
            );
        }
        return Ok(base.clone());
    };
    let own = folder.join("..").join(BASE); // beside the run's steps, also for a link to one
    let candidates: Vec<PathBuf> = std::iter::once(own).chain(named).filter(|base| base.is_dir()).collect();
    if let Some(base) = candidates
        .iter()
        .find(|base| hash(base).is_ok_and(|hash| hash == hash_of_base))
    {
        return Ok(base.clone());
    }
    let beside = match folder.file_name() {
        Some(_) => folder.with_file_name(BASE),
        None => folder.join("..").join(BASE),
    };
    match candidates.first() {
        Some(other) => bail!(
            "the weights in {} are not those that the adapters in {} were trained on, whose SHA-256 is {hash_of_base}; put the folder with the right ones at {}, after moving away what is there",
            other.display(),
            folder.display(),
            beside.display()
        ),
        None => bail!(
            "the base model of the adapters in {} is missing: {}; put its folder (with model.safetensors of SHA-256 {hash_of_base}) at {}",
            folder.display(),
            peft::named_bases(folder)?
                .last()
                .map_or(String::new(), |base| base.display().to_string()),
            beside.display()
        ),
    }
}

/// Copies the base model to `dest`, with a hard link to its weights if possible. An existing copy is kept.
///
/// # Errors
/// It cannot be read or written.
pub fn copy(base: &Path, dest: &Path) -> Result<()> {
    if dest.is_dir() {
        return Ok(());
    }
    durable::write_folder(dest, |temp| {
        for name in [MODEL_CONFIG, TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE] {
            if base.join(name).exists() {
                fs::copy(base.join(name), temp.join(name))?;
            }
        }
        // A link is resolved, so that its target is linked or copied.
        let weights = base.join(WEIGHTS_FILE).canonicalize()?;
        let kept = temp.join(WEIGHTS_FILE);
        if fs::hard_link(&weights, &kept).is_err() {
            fs::copy(&weights, &kept)?;
        }
        state::write_imported(temp, &super::import::origin(base))
    })
    .map_err(|error| {
        let what = format_args!(
            "the base model in {} could not be copied to {}",
            base.display(),
            dest.display()
        );
        with_hint(error, what)
    })
}

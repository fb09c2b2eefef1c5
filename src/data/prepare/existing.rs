//! What earlier starts of a preparation left in its folder.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::data::manifest::{MANIFEST, Manifest, open_shards};
use crate::data::text_files::FilePosition;
use crate::disk::hash::sha256_of_file;
use crate::disk::{files, unfinished};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::folder::TOKENIZER;

/// The file of an unfinished preparation.
pub const JOURNAL: &str = "journal.json";

/// Progress of an unfinished preparation: the manifest so far, and where the next shard begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// The manifest so far.
    pub manifest: Manifest,
    /// Where the next shard begins.
    pub next: FilePosition,
}

/// What earlier starts left in a folder.
pub enum Existing {
    /// An empty folder.
    Nothing,
    /// Shards, and the journal of what is missing.
    Partial(Journal),
    /// All of it.
    Complete(Manifest),
    /// Written by this program, but it cannot be resumed.
    Damaged,
}

/// Inspects the folder that `wanted` is to be prepared in.
///
/// # Errors
/// It has other contents, which are left alone.
pub fn existing_in(folder: &Path, wanted: &Manifest, tokenizer: &Tokenizer) -> Result<Existing> {
    let shown = folder.display();
    if Manifest::is_newer(folder) {
        Manifest::read(folder)?; // what another version wrote is not damaged
    }
    if let Ok(made) = Manifest::read(folder) {
        if let Some(difference) = made.difference(wanted, tokenizer, folder) {
            bail!("{shown} was prepared {difference}; choose another --out");
        }
        let tokenizer = sha256_of_file(&folder.join(TOKENIZER));
        let shards = open_shards(folder, &made.shards().collect::<Vec<_>>(), made.dtype, made.vocab_size);
        return Ok(match (tokenizer, shards) {
            (Ok(hash), Ok(_)) if hash == made.tokenizer_sha256 => Existing::Complete(made),
            _ => Existing::Damaged,
        });
    }
    if let Some(journal) = journal_in(folder) {
        if let Some(difference) = journal.manifest.difference(wanted, tokenizer, folder) {
            bail!("{shown} was begun {difference}; choose another --out, or move the folder away");
        }
        return Ok(Existing::Partial(journal));
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !unfinished::is_unfinished(name.as_ref()) {
            names.push(name);
        }
    }
    // Only a folder that contains shards, and nothing that `prepare` does not write, is certainly this program's.
    let has = |name: &str| names.iter().any(|other| other == name);
    let is_damaged = (has(MANIFEST) || has(JOURNAL))
        && has(TOKENIZER)
        && names.iter().any(|name| is_shard(name))
        && names
            .iter()
            .all(|name| is_shard(name) || [MANIFEST, JOURNAL, TOKENIZER].contains(&name.as_str()));
    match names.first() {
        None => Ok(Existing::Nothing),
        Some(_) if is_damaged => Ok(Existing::Damaged),
        Some(name) => bail!("folder {shown} is not empty: it contains {name}; choose another --out"),
    }
}

/// Whether it is the name of a shard.
fn is_shard(name: &str) -> bool {
    let number = name.strip_prefix("train-").or(name.strip_prefix("val-"));
    number
        .and_then(|number| number.strip_suffix(".bin"))
        .is_some_and(|number| number.len() >= 5 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether tokens are being prepared in `folder`, or were when a process died.
pub fn is_begun(folder: &Path) -> bool {
    journal_in(folder).is_some()
}

fn journal_in(folder: &Path) -> Option<Journal> {
    files::read_json(&folder.join(JOURNAL), "a journal").ok()
}

//! What a folder of token shards says of itself: `manifest.json`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::tokens::{Shard, TokenWidth, Tokens};
use crate::disk::files;
use crate::disk::hash::sha256_of_file;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const FORMAT: u32 = 1;

/// What a prepared folder holds: `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub corpus: Survey,
    /// Of the folder's `tokenizer.json`.
    pub tokenizer_sha256: String,
    pub vocab_size: usize,
    pub width: TokenWidth,
    /// Bytes of text that fill a shard.
    pub shard_text: u64,
    pub train: Vec<ShardRecord>,
    pub val: Vec<ShardRecord>,
}

/// A first look at the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    /// Files; where the tokenizer has an end-of-text token, it follows each.
    pub documents: usize,
    pub characters: u64,
    /// UTF-8 bytes, after byte-order marks and carriage returns are gone.
    pub bytes: u64,
    /// SHA-256 of that text.
    pub sha256: String,
    /// The byte of that text at which validation begins.
    pub cut: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    pub file: String,
    pub tokens: u64,
    /// UTF-8 bytes that the tokens stand for.
    pub text_bytes: u64,
    pub sha256: String,
}

impl Manifest {
    /// Whether `folder` is one of this program's prepared ones.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(MANIFEST).is_file()
    }

    /// Reads a prepared folder's manifest.
    ///
    /// # Errors
    /// It is missing, damaged, or of a newer format.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let bytes = files::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not a manifest of tokens", path.display()))?;
        ensure!(
            manifest.format <= FORMAT,
            "{} has format {}, this program knows up to {FORMAT}; use a newer mlx-gpt",
            path.display(),
            manifest.format
        );
        manifest
            .check()
            .with_context(|| format!("{} is damaged; prepare the data again", path.display()))?;
        Ok(manifest)
    }

    /// Whether its numbers fit each other.
    pub(super) fn check(&self) -> Result<()> {
        let sum = |records: &[ShardRecord], count: fn(&ShardRecord) -> u64| {
            records
                .iter()
                .try_fold(0, |sum: u64, record| sum.checked_add(count(record)))
        };
        let [train, val] = [&self.train, &self.val].map(|records| sum(records, |record| record.text_bytes));
        ensure!(
            train == Some(self.corpus.cut)
                && val.and_then(|val| val.checked_add(self.corpus.cut)) == Some(self.corpus.bytes),
            "its shards do not add up to its text"
        );
        let all: Vec<_> = self.shards().cloned().collect();
        ensure!(
            sum(&all, |record| record.tokens).is_some(),
            "its shards have too many tokens"
        );
        ensure!(
            self.width == TokenWidth::for_vocabulary(self.vocab_size),
            "tokens of a vocabulary of {} are not as wide as it says",
            self.vocab_size
        );
        Ok(())
    }

    pub fn shards(&self) -> impl Iterator<Item = &ShardRecord> {
        self.train.iter().chain(&self.val)
    }

    /// Whether both are of one text, tokenizer and size of shards.
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        self.corpus == other.corpus
            && self.tokenizer_sha256 == other.tokenizer_sha256
            && (self.format, self.shard_text) == (other.format, other.shard_text)
    }
}

/// Maps some of a folder's shards, after comparing each with its hash; all cores read.
///
/// # Errors
/// A shard is missing, cut, changed, or of another length than the manifest says.
pub fn open_shards(folder: &Path, records: &[&ShardRecord], width: TokenWidth) -> Result<Tokens> {
    let shards = records.par_iter().map(|record| {
        ensure!(
            Path::new(&record.file).file_name() == Some(record.file.as_ref()),
            "{}: {:?} is not the name of a file in this folder",
            folder.join(MANIFEST).display(),
            record.file
        );
        let path: PathBuf = folder.join(&record.file);
        let shard = Shard::open(&path, width)?;
        ensure!(
            shard.len() as u64 == record.tokens,
            "token shard {} was cut: it has {} tokens, its manifest says {}; prepare the data again",
            path.display(),
            shard.len(),
            record.tokens
        );
        ensure!(
            sha256_of_file(&path)? == record.sha256,
            "token shard {} was changed or damaged after it was written; prepare the data again",
            path.display()
        );
        Ok(shard)
    });
    Ok(Tokens::Shards(shards.collect::<Result<_>>()?))
}

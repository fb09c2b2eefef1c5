//! The manifest of a folder of token shards: `manifest.json`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::tokens::{Shard, TokenWidth, Tokens};
use crate::config::SpecialTokens;
use crate::disk::files;
use crate::disk::hash::{sha256, sha256_of_file};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::folder::TOKENIZER;

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
    /// How special tokens in the text of the corpus were encoded.
    #[serde(default)]
    pub special: SpecialTokens,
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
            "its token width does not match its vocabulary of {}",
            self.vocab_size
        );
        Ok(())
    }

    pub fn shards(&self) -> impl Iterator<Item = &ShardRecord> {
        self.train.iter().chain(&self.val)
    }

    /// How what is in `folder` differs from what `asked` for, with `tokenizer`; none where it is the same.
    pub(super) fn difference(&self, asked: &Self, tokenizer: &Tokenizer, folder: &Path) -> Option<String> {
        if self.format != asked.format {
            return Some("by another version of mlx-gpt".into());
        }
        if self.corpus != asked.corpus {
            let (was, is) = (&self.corpus, &asked.corpus);
            return Some(match was.bytes == is.bytes {
                true => "from another text of the same length".into(),
                false => format!("from another text, of {} bytes against {}", was.bytes, is.bytes),
            });
        }
        match self.difference_of_tokenizer(tokenizer, folder) {
            Ok(None) => {}
            Ok(Some(difference)) => return Some(format!("with another tokenizer: {difference}")),
            Err(_) => return Some("with another tokenizer, which is missing now".into()),
        }
        if self.special != asked.special {
            return Some("with another --special".into());
        }
        (self.shard_text != asked.shard_text).then(|| {
            let [was, is] = [self.shard_text, asked.shard_text].map(|bytes| bytes >> 20);
            format!("in shards of {was} MiB of text against {is}")
        })
    }

    /// How the tokenizer that made the tokens in `folder` differs from `tokenizer`; none where both give the same ids.
    ///
    /// # Errors
    /// The folder's tokenizer is missing or was changed.
    pub fn difference_of_tokenizer(&self, tokenizer: &Tokenizer, folder: &Path) -> Result<Option<String>> {
        if sha256(serde_json::to_string_pretty(&tokenizer.to_json()?)?) == self.tokenizer_sha256 {
            return Ok(None);
        }
        let file = folder.join(TOKENIZER);
        ensure!(
            sha256_of_file(&file)? == self.tokenizer_sha256,
            "{} is not the tokenizer that made the tokens beside it; prepare the data again",
            file.display()
        );
        Tokenizer::load(&file)?.difference(tokenizer)
    }
}

/// Maps some of a folder's shards, after comparing each with its hash and with the vocabulary; all cores read.
///
/// # Errors
/// A shard is missing, cut, changed, of another length than the manifest says, or of another vocabulary.
pub fn open_shards(folder: &Path, records: &[&ShardRecord], width: TokenWidth, vocab_size: usize) -> Result<Tokens> {
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
        shard.check(&path, vocab_size)?;
        Ok(shard)
    });
    Ok(Tokens::Shards(shards.collect::<Result<_>>()?))
}

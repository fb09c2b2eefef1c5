//! `manifest.json` of a folder of token shards.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::tokens::{Shard, TokenDtype, Tokens};
use crate::config::SpecialTokens;
use crate::disk::files;
use crate::disk::hash::{sha256, sha256_of_file};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::folder::TOKENIZER;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const VERSION: u32 = 1;

/// What the file is not where it is another program's, or damaged.
const WHAT: &str = "a manifest of tokens; prepare the data again, or move it away";

/// What a manifest of every version has.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "format")]
    version: u32,
}

/// The contents of a prepared folder: `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    #[serde(rename = "format")]
    pub version: u32,
    /// The text.
    pub corpus: CorpusStats,
    /// SHA-256 of the folder's `tokenizer.json`.
    pub tokenizer_sha256: String,
    /// Size of the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// How special tokens in the text of the corpus were encoded.
    #[serde(default)]
    pub special: SpecialTokens,
    /// How ids are stored.
    #[serde(rename = "width")]
    pub dtype: TokenDtype,
    /// Bytes of text per shard.
    pub shard_text: u64,
    /// The shards of the training split.
    pub train: Vec<ShardRecord>,
    /// The shards of the validation split.
    pub val: Vec<ShardRecord>,
}

/// Statistics of the text, from a first pass over it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorpusStats {
    /// Number of files; each is followed by the tokenizer's end-of-text token, if it has one.
    pub documents: usize,
    /// Number of characters.
    pub characters: u64,
    /// UTF-8 bytes of the normalised text, without byte-order marks and carriage returns.
    pub bytes: u64,
    /// SHA-256 of that text.
    pub sha256: String,
    /// The byte of that text at which the validation split begins.
    #[serde(rename = "cut")]
    pub split_offset: u64,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// Name of its file.
    pub file: String,
    /// Number of tokens.
    pub tokens: u64,
    /// UTF-8 bytes of the text that the tokens encode.
    pub text_bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl Manifest {
    /// Whether `folder` was written by `data prepare`.
    pub fn exists_in(folder: &Path) -> bool {
        folder.join(MANIFEST).is_file()
    }

    /// Whether a newer version prepared `folder`.
    pub(super) fn is_newer(folder: &Path) -> bool {
        let header = files::read_json::<Header>(&folder.join(MANIFEST), WHAT);
        header.is_ok_and(|Header { version }| version > VERSION)
    }

    /// Reads a prepared folder's manifest.
    ///
    /// # Errors
    /// It is missing, damaged, or of a newer format.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let Header { version } = files::read_json(&path, WHAT)?;
        files::ensure_version(&path, version, VERSION)?;
        let manifest: Self = files::read_json(&path, WHAT)?;
        manifest
            .check()
            .with_context(|| format!("{} is damaged; prepare the data again", path.display()))?;
        Ok(manifest)
    }

    /// Checks that its numbers are consistent.
    ///
    /// # Errors
    /// They are not.
    pub(super) fn check(&self) -> Result<()> {
        let sum = |records: &[ShardRecord], count: fn(&ShardRecord) -> u64| {
            records
                .iter()
                .try_fold(0, |sum: u64, record| sum.checked_add(count(record)))
        };
        let [train, val] = [&self.train, &self.val].map(|records| sum(records, |record| record.text_bytes));
        ensure!(
            train == Some(self.corpus.split_offset)
                && val.and_then(|val| val.checked_add(self.corpus.split_offset)) == Some(self.corpus.bytes),
            "its shards do not add up to its text"
        );
        let all: Vec<_> = self.shards().cloned().collect();
        ensure!(
            sum(&all, |record| record.tokens).is_some(),
            "its shards have too many tokens"
        );
        ensure!(
            self.dtype == TokenDtype::for_vocabulary(self.vocab_size),
            "its token width does not match its vocabulary of {}",
            self.vocab_size
        );
        Ok(())
    }

    /// All shards: those of the training split first.
    pub fn shards(&self) -> impl Iterator<Item = &ShardRecord> {
        self.train.iter().chain(&self.val)
    }

    /// How the contents of `folder` differ from what `asked` and `tokenizer` would produce; `None` if they don't.
    pub(super) fn difference(&self, asked: &Self, tokenizer: &Tokenizer, folder: &Path) -> Option<String> {
        if self.version != asked.version {
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

    /// How the tokenizer of `folder` differs from `tokenizer`; `None` if both give the same ids.
    ///
    /// # Errors
    /// The folder's tokenizer is missing or was changed.
    pub fn difference_of_tokenizer(&self, tokenizer: &Tokenizer, folder: &Path) -> Result<Option<String>> {
        if sha256(serde_json::to_string_pretty(&tokenizer.to_json())?) == self.tokenizer_sha256 {
            return Ok(None);
        }
        let file = folder.join(TOKENIZER);
        ensure!(
            sha256_of_file(&file)? == self.tokenizer_sha256,
            "{} is not the tokenizer of the tokens beside it; prepare the data again",
            file.display()
        );
        Tokenizer::load(&file)?.difference(tokenizer)
    }
}

/// Maps shards of a folder into memory, after checking each one's hash and ids on all cores.
///
/// # Errors
/// A shard is missing, truncated or changed, its length differs from the manifest's, or an id is out of range.
pub fn open_shards(folder: &Path, records: &[&ShardRecord], dtype: TokenDtype, vocab_size: usize) -> Result<Tokens> {
    let shards = records.par_iter().map(|record| {
        files::ensure_plain_name(&record.file, &folder.join(MANIFEST))?;
        let path: PathBuf = folder.join(&record.file);
        let shard = Shard::open(&path, dtype)?;
        ensure!(
            shard.len() as u64 == record.tokens,
            "token shard {} is truncated: it has {} tokens, its manifest says {}; prepare the data again",
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

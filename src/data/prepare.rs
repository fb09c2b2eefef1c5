//! Text files to token shards: in parallel, in little memory, and going on where it was interrupted.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::corpus::{TRAIN_SHARE, remarks};
use super::text_files::{Block, Place, TextFiles};
use super::tokens::{Shard, TokenWidth, Tokens};
use crate::disk::durable;
use crate::disk::files;
use crate::disk::hash::{self, sha256, sha256_of_file};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::folder::TOKENIZER;

const MANIFEST: &str = "manifest.json";
const JOURNAL: &str = "journal.json";
const FORMAT: u32 = 1;

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

/// A manifest in the making, and where its next shard begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Journal {
    manifest: Manifest,
    next: Place,
}

/// What [`prepare`] tells its caller as it goes.
pub enum Event {
    /// Bytes of text, on disk, in all.
    Found(u64),
    /// Bytes of text, on disk, that were surveyed.
    Surveyed(u64),
    /// Bytes of text, on disk, that are in shards.
    Encoded(u64),
    /// Something that the user should know.
    Remark(String),
}

/// The split of a survey: which place in the files begins validation.
struct Split {
    survey: Survey,
    cut: Place,
}

/// Turns the text at `corpus` into token shards in `folder`, each of `shard_text` bytes of text and the rest of the block
/// that reaches it. A folder in which this was interrupted is completed; one
/// that is complete stays as it is.
///
/// # Errors
/// Text that cannot be read or encoded, a folder that holds something else, a disk that cannot be written.
pub fn prepare(
    corpus: &Path,
    folder: &Path,
    tokenizer: &Tokenizer,
    shard_text: u64,
    mut on: impl FnMut(Event),
) -> Result<Manifest> {
    let files = TextFiles::find(corpus)?;
    on(Event::Found(files.bytes()));
    let Split { survey, cut } = survey(&files, corpus, &mut on)?;
    let tokenizer_json = serde_json::to_string_pretty(&tokenizer.to_json()?)?;
    let empty = Manifest {
        format: FORMAT,
        corpus: survey,
        tokenizer_sha256: sha256(&tokenizer_json),
        vocab_size: tokenizer.vocab_size(),
        width: TokenWidth::for_vocabulary(tokenizer.vocab_size()),
        shard_text,
        train: Vec::new(),
        val: Vec::new(),
    };
    if folder.join(MANIFEST).exists() {
        let made = Manifest::read(folder)?;
        ensure!(
            made.is_of_the_same(&empty),
            "{} holds tokens of another text, tokenizer or shard size; choose another --out",
            folder.display()
        );
        on(Event::Remark(format!("{} is prepared already", folder.display())));
        return Ok(made);
    }

    fs::create_dir_all(folder).with_context(|| format!("folder {} cannot be made", folder.display()))?;
    durable::remove_leftovers(folder)?;
    let mut journal = match files::read(&folder.join(JOURNAL)) {
        Ok(bytes) => {
            let damaged = || {
                format!(
                    "{} is damaged; delete the folder and start again",
                    folder.join(JOURNAL).display()
                )
            };
            let journal: Journal = serde_json::from_slice(&bytes).with_context(damaged)?;
            files.check(journal.next).with_context(damaged)?;
            ensure!(
                journal.manifest.is_of_the_same(&empty),
                "{} was begun with another text, tokenizer or shard size; choose another --out, or delete it",
                folder.display()
            );
            let done = journal.manifest.shards().count();
            on(Event::Remark(format!("going on after {done} complete shard(s)")));
            journal
        }
        Err(_) => {
            ensure!(
                fs::read_dir(folder)?.next().is_none(),
                "folder {} is not empty; choose another --out",
                folder.display()
            );
            Journal {
                manifest: empty,
                next: Place::default(),
            }
        }
    };
    durable::write_file(&folder.join(TOKENIZER), tokenizer_json.as_bytes())?;
    durable::write_file(&folder.join(JOURNAL), &serde_json::to_vec(&journal)?)?;
    on(Event::Encoded(files.bytes_before(journal.next)));

    let end = files.end();
    let shards = ShardWriter {
        files: &files,
        tokenizer,
        width: journal.manifest.width,
        shard_text,
    };
    while journal.next < end {
        let training = journal.next < cut;
        let limit = if training { cut } else { end };
        let records = if training {
            &mut journal.manifest.train
        } else {
            &mut journal.manifest.val
        };
        let name = format!("{}-{:05}.bin", if training { "train" } else { "val" }, records.len());
        let place = folder.join(&name);
        let making = durable::making(&place)?;
        let (record, next) = shards
            .write(journal.next..limit, &making, name, &mut on)
            .inspect_err(|_| {
                let _ = fs::remove_file(&making);
            })?;
        durable::publish(&making, &place).with_context(|| format!("shard {} could not be written", place.display()))?;
        records.push(record);
        journal.next = next;
        durable::write_file(&folder.join(JOURNAL), &serde_json::to_vec(&journal)?)?;
    }
    journal.manifest.check().with_context(|| {
        format!(
            "{} does not fit its shards; delete the folder and start again",
            folder.join(JOURNAL).display()
        )
    })?;
    durable::write_file(&folder.join(MANIFEST), &serde_json::to_vec_pretty(&journal.manifest)?)?;
    fs::remove_file(folder.join(JOURNAL))?;
    Ok(journal.manifest)
}

/// Counts and hashes the text, and finds the place of the split.
fn survey(files: &TextFiles, corpus: &Path, on: &mut impl FnMut(Event)) -> Result<Split> {
    let mut counts = Vec::new(); // of each block: place, characters, bytes of text
    let mut hash = Sha256::new();
    let (mut documents, mut marks, mut carriage_returns, mut place) = (0, 0, 0, Place::default());
    for block in files.blocks(Place::default(), None) {
        let block = block?;
        counts.push((place, block.text.chars().count() as u64, block.text.len() as u64));
        hash.update(&block.text);
        documents += usize::from(block.ends_file);
        marks += usize::from(block.had_mark);
        carriage_returns += block.carriage_returns;
        place = block.end;
        on(Event::Surveyed(block.bytes));
    }
    for remark in remarks(marks, carriage_returns) {
        on(Event::Remark(remark));
    }
    let characters: u64 = counts.iter().map(|&(_, characters, _)| characters).sum();
    ensure!(characters > 0, "corpus {} is empty; it needs text", corpus.display());

    let mut left = (characters as f64 * TRAIN_SHARE) as u64;
    let (mut cut, mut cut_bytes) = (files.end(), 0);
    for &(place, characters, bytes) in &counts {
        if left < characters {
            cut = files.place_of_character(place, left)?;
            let head = files
                .blocks(place, Some(cut))
                .map(|block| Ok(block?.text.len() as u64))
                .sum::<Result<u64>>()?;
            cut_bytes += head;
            break;
        }
        (left, cut_bytes) = (left - characters, cut_bytes + bytes);
    }
    let survey = Survey {
        documents,
        characters,
        bytes: counts.iter().map(|&(_, _, bytes)| bytes).sum(),
        sha256: hash::finish(hash),
        cut: cut_bytes,
    };
    Ok(Split { survey, cut })
}

/// What shards are made of.
struct ShardWriter<'a> {
    files: &'a TextFiles,
    tokenizer: &'a Tokenizer,
    width: TokenWidth,
    shard_text: u64,
}

impl ShardWriter<'_> {
    /// Writes the tokens of the text in `range`, or as much as a shard holds, to `path`; the shard will be called `name`.
    /// Where the next one begins.
    fn write(
        &self,
        range: Range<Place>,
        path: &Path,
        name: String,
        on: &mut impl FnMut(Event),
    ) -> Result<(ShardRecord, Place)> {
        let (width, limit) = (self.width, range.end);
        let mut out =
            BufWriter::new(File::create(path).with_context(|| format!("{} cannot be written", path.display()))?);
        let mut hash = Sha256::new();
        let mut record = ShardRecord {
            file: name,
            tokens: 0,
            text_bytes: 0,
            sha256: String::new(),
        };
        let mut next = range.start;
        let mut blocks = self.files.blocks(next, Some(limit));
        let at_once = 2 * rayon::current_num_threads();
        while next < limit && record.text_bytes < self.shard_text {
            // As many blocks as threads can work on, encoded side by side and written in their order.
            let batch = blocks.by_ref().take(at_once).collect::<Result<Vec<Block>>>()?;
            let encoded = batch
                .par_iter()
                .map(|block| {
                    let mut ids = self.tokenizer.encode(&block.text)?;
                    ids.extend(self.tokenizer.end_of_text().filter(|_| block.ends_file));
                    let mut bytes = Vec::with_capacity(ids.len() * width.bytes());
                    width.write(&ids, &mut bytes);
                    Ok(bytes)
                })
                .collect::<Result<Vec<_>>>()?;
            for (block, bytes) in batch.iter().zip(encoded) {
                out.write_all(&bytes)?;
                hash.update(&bytes);
                record.tokens += (bytes.len() / width.bytes()) as u64;
                record.text_bytes += block.text.len() as u64;
                next = block.end;
                on(Event::Encoded(block.bytes));
            }
        }
        out.flush()?;
        record.sha256 = hash::finish(hash);
        Ok((record, next))
    }
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
    fn check(&self) -> Result<()> {
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

    fn is_of_the_same(&self, other: &Self) -> bool {
        self.corpus == other.corpus
            && self.tokenizer_sha256 == other.tokenizer_sha256
            && (self.format, self.shard_text) == (other.format, other.shard_text)
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

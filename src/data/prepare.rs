//! Text files to token shards: in parallel, in little memory, and going on where it was interrupted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::corpus::{TRAIN_SHARE, remarks};
use super::text_files::{Block, Place, TextFiles};
use super::tokens::{Shard, TokenWidth, Tokens};
use crate::config::SpecialTokens;
use crate::disk::durable;
use crate::disk::files;
use crate::disk::hash::{self, sha256, sha256_of_file};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::folder::TOKENIZER;
use crate::tokenizer::note_on_text;

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
    /// What became of special tokens whose text is in the corpus.
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
    special: SpecialTokens,
    shard_text: u64,
    mut on: impl FnMut(Event),
) -> Result<Manifest> {
    let files = TextFiles::find(corpus)?.keeping_whole(tokenizer.special_tokens().keys());
    on(Event::Found(files.bytes()));
    let Split { survey, cut } = survey(&files, corpus, &mut on)?;
    let tokenizer_json = serde_json::to_string_pretty(&tokenizer.to_json()?)?;
    let empty = Manifest {
        format: FORMAT,
        corpus: survey,
        tokenizer_sha256: sha256(&tokenizer_json),
        vocab_size: tokenizer.vocab_size(),
        special,
        width: TokenWidth::for_vocabulary(tokenizer.vocab_size()),
        shard_text,
        train: Vec::new(),
        val: Vec::new(),
    };
    if folder.join(MANIFEST).exists() {
        let made = Manifest::read(folder)?;
        if let Some(difference) = made.difference(&empty, tokenizer, folder)? {
            bail!("{} was prepared {difference}; choose another --out", folder.display());
        }
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
            if let Some(difference) = journal.manifest.difference(&empty, tokenizer, folder)? {
                bail!(
                    "{} was begun {difference}; choose another --out, or delete it",
                    folder.display()
                );
            }
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
    if !folder.join(TOKENIZER).exists() {
        durable::write_file(&folder.join(TOKENIZER), tokenizer_json.as_bytes())?;
    }
    durable::write_file(&folder.join(JOURNAL), &serde_json::to_vec(&journal)?)?;
    on(Event::Encoded(files.bytes_before(journal.next)));

    let end = files.end();
    let mut as_text = BTreeMap::new();
    let shards = ShardWriter {
        files: &files,
        tokenizer,
        special,
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
            .write(journal.next..limit, &making, name, &mut as_text, &mut on)
            .inspect_err(|_| {
                let _ = fs::remove_file(&making);
            })?;
        durable::publish(&making, &place).with_context(|| format!("shard {} could not be written", place.display()))?;
        records.push(record);
        journal.next = next;
        durable::write_file(&folder.join(JOURNAL), &serde_json::to_vec(&journal)?)?;
    }
    if let Some(note) = note_on_text(&as_text) {
        on(Event::Remark(note));
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
    special: SpecialTokens,
    width: TokenWidth,
    shard_text: u64,
}

impl ShardWriter<'_> {
    /// Writes the tokens of the text in `range`, or as much as a shard holds, to `path`; the shard will be called `name`.
    /// Where the next one begins. Special tokens that are encoded as text are counted in `as_text`.
    fn write(
        &self,
        range: Range<Place>,
        path: &Path,
        name: String,
        as_text: &mut BTreeMap<String, usize>,
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
                    let ids = self.tokenizer.encode_with(&block.text, &self.special.into());
                    let mut ids = ids.with_context(|| self.files.name(block.start))?;
                    ids.extend(self.tokenizer.end_of_text().filter(|_| block.ends_file));
                    let mut bytes = Vec::with_capacity(ids.len() * width.bytes());
                    width.write(&ids, &mut bytes);
                    let counts = match self.special {
                        SpecialTokens::Text => self.tokenizer.special_tokens_in(&block.text),
                        SpecialTokens::Allow | SpecialTokens::Raise => BTreeMap::new(),
                    };
                    Ok((bytes, counts))
                })
                .collect::<Result<Vec<_>>>()?;
            for (block, (bytes, counts)) in batch.iter().zip(encoded) {
                for (token, count) in counts {
                    *as_text.entry(token).or_default() += count;
                }
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

    /// How what is in `folder` differs from what `asked` for, with `tokenizer`; none where it is the same.
    fn difference(&self, asked: &Self, tokenizer: &Tokenizer, folder: &Path) -> Result<Option<String>> {
        if self.format != asked.format {
            return Ok(Some("by another version of mlx-gpt".into()));
        }
        if self.corpus != asked.corpus {
            let (was, is) = (&self.corpus, &asked.corpus);
            return Ok(Some(match was.bytes == is.bytes {
                true => "from another text of the same length".into(),
                false => format!("from another text, of {} bytes against {}", was.bytes, is.bytes),
            }));
        }
        if let Some(difference) = self.difference_of_tokenizer(tokenizer, folder)? {
            return Ok(Some(format!("with another tokenizer: {difference}")));
        }
        if self.special != asked.special {
            return Ok(Some("with another --special".into()));
        }
        Ok((self.shard_text != asked.shard_text).then(|| {
            let [was, is] = [self.shard_text, asked.shard_text].map(|bytes| bytes >> 20);
            format!("in shards of {was} MiB of text against {is}")
        }))
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

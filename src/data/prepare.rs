//! Encodes text files into token shards: in parallel, in bounded memory, and resumable.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::corpus::{notes, train_part};
use super::manifest::{CorpusStats, MANIFEST, Manifest, ShardRecord, VERSION, open_shards};
use super::text_files::{BLOCK, FilePosition, TextBlock, TextFiles};
use super::tokens::TokenDtype;
use crate::config::SpecialTokens;
use crate::disk::durable;
use crate::disk::files;
use crate::disk::hash::{self, sha256, sha256_of_file};
use crate::disk::unfinished::{self, Unfinished};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::folder::TOKENIZER;
use crate::tokenizer::ordinary_text_note;

const JOURNAL: &str = "journal.json";

/// Progress of an unfinished preparation: the manifest so far, and where the next shard begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Journal {
    manifest: Manifest,
    next: FilePosition,
}

/// Progress events of [`prepare`]; an error of the callback aborts it.
pub enum Event {
    /// Total bytes of text on disk.
    Found(u64),
    /// Bytes of text on disk that were scanned since the last event.
    Scanned(u64),
    /// Bytes of text on disk that were encoded since the last event.
    Encoded(u64),
    /// A note for the user.
    Note(String),
}

/// Statistics of the text, and where the validation split begins in the files.
struct SplitPoint {
    stats: CorpusStats,
    position: FilePosition,
}

/// Encodes the text at `corpus` into token shards in `folder`. A shard ends with the block that reaches `shard_text` bytes
/// of text. An interrupted preparation is resumed; a complete one is left as it is.
///
/// # Errors
/// Text that cannot be read or encoded; a folder with other contents; a disk that cannot be written; another process that
/// prepares the same folder; an error of `on_event`.
pub fn prepare(
    corpus: &Path,
    folder: &Path,
    tokenizer: &Tokenizer,
    special: SpecialTokens,
    shard_text: u64,
    mut on_event: impl FnMut(Event) -> Result<()>,
) -> Result<Manifest> {
    let files = TextFiles::find(corpus)?.with_atomic_strings(tokenizer.special_tokens().keys());
    on_event(Event::Found(files.bytes()))?;
    let SplitPoint { stats, position: split } = find_split(&files, corpus, &mut on_event)?;
    if files.bytes() > BLOCK as u64 && !encodes_lines_apart(tokenizer) {
        on_event(Event::Note(
            "each block of about 1 MiB is encoded by itself, and with this tokenizer the tokens where two blocks meet differ from those of the whole text"
                .into(),
        ))?;
    }
    let tokenizer_json = serde_json::to_string_pretty(&tokenizer.to_json())?;
    let empty = Manifest {
        version: VERSION,
        corpus: stats,
        tokenizer_sha256: sha256(&tokenizer_json),
        vocab_size: tokenizer.vocab_size(),
        special,
        dtype: TokenDtype::for_vocabulary(tokenizer.vocab_size()),
        shard_text,
        train: Vec::new(),
        val: Vec::new(),
    };
    let _made = durable::make_folder(folder)?;
    // Otherwise a second process would mistake the first one's shards for its own.
    let lock = File::open(folder).with_context(|| format!("folder {} cannot be read", folder.display()))?;
    ensure!(
        !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
        "folder {} is being prepared by another process; wait for it to finish, or choose another --out",
        folder.display()
    );
    let begun = match existing_in(folder, &empty, tokenizer)? {
        Existing::Complete(made) => {
            let _ = fs::remove_file(folder.join(JOURNAL)); // left by a process that died before it could
            on_event(Event::Note(format!("{} is already prepared", folder.display())))?;
            return Ok(made);
        }
        Existing::Partial(journal) if files.check(journal.next).is_ok() => Some(journal),
        Existing::Partial(_) | Existing::Damaged => {
            on_event(Event::Note(format!(
                "{} is damaged; preparing it again from the start",
                folder.display()
            )))?;
            None
        }
        Existing::Nothing => None,
    };
    if let Some(journal) = &begun {
        let done = journal.manifest.shards().count();
        on_event(Event::Note(format!("resuming after {done} complete shard(s)")))?;
    }
    let mut journal = begun.unwrap_or(Journal {
        manifest: empty,
        next: FilePosition::default(),
    });
    // First, so that an interrupted start recognises the folder as its own.
    durable::write_file(&folder.join(JOURNAL), &serde_json::to_vec(&journal)?)?;
    let manifest = folder.join(MANIFEST);
    if manifest.exists() {
        fs::remove_file(&manifest).map_err(|error| durable::not_written(&manifest)(error.into()))?;
    }
    // An equivalent tokenizer with other bytes is kept, because its hash is in the manifest.
    if sha256_of_file(&folder.join(TOKENIZER)).ok().as_ref() != Some(&journal.manifest.tokenizer_sha256) {
        durable::write_file(&folder.join(TOKENIZER), tokenizer_json.as_bytes())?;
    }
    on_event(Event::Encoded(files.bytes_before(journal.next)))?;

    let end = files.end();
    let mut as_text = BTreeMap::new();
    let shards = ShardWriter {
        files: &files,
        tokenizer,
        special,
        dtype: journal.manifest.dtype,
        shard_text,
    };
    while journal.next < end {
        let training = journal.next < split;
        let limit = if training { split } else { end };
        let records = if training {
            &mut journal.manifest.train
        } else {
            &mut journal.manifest.val
        };
        let name = format!("{}-{:05}.bin", if training { "train" } else { "val" }, records.len());
        let path = folder.join(&name);
        let (record, next) = Unfinished::file(&path)
            .and_then(|temp| {
                let written = shards.write(journal.next..limit, temp.path(), name, &mut as_text, &mut on_event)?;
                temp.publish(&path)?;
                Ok(written)
            })
            .map_err(durable::not_written(&path))?;
        records.push(record);
        journal.next = next;
        durable::write_file(&folder.join(JOURNAL), &serde_json::to_vec(&journal)?)?;
    }
    if let Some(note) = ordinary_text_note(&as_text) {
        on_event(Event::Note(note))?;
    }
    journal.manifest.check().with_context(|| {
        format!(
            "{} does not fit its shards; choose another --out, or move the folder away and start again",
            folder.join(JOURNAL).display()
        )
    })?;
    durable::write_file(&manifest, &serde_json::to_vec_pretty(&journal.manifest)?)?;
    let _ = fs::remove_file(folder.join(JOURNAL)); // if this fails, the next start removes it
    Ok(journal.manifest)
}

/// Whether the tokenizer encodes two lines to the same tokens apart as together.
fn encodes_lines_apart(tokenizer: &Tokenizer) -> bool {
    let (first, second) = ("To be,\n", "or not to be\n");
    let encode = |text: &str| tokenizer.encode(text).ok();
    match (encode(first), encode(second), encode(&[first, second].concat())) {
        (Some(apart), Some(second), Some(together)) => [apart, second].concat() == together,
        _ => true, // a tokenizer of characters that lacks one of these, and has no chunks
    }
}

/// What earlier starts left in a folder.
enum Existing {
    Nothing,
    Partial(Journal),
    Complete(Manifest),
    /// Written by this program, but it cannot be resumed.
    Damaged,
}

/// Inspects the folder that `wanted` is to be prepared in.
///
/// # Errors
/// It has other contents, which are left alone.
fn existing_in(folder: &Path, wanted: &Manifest, tokenizer: &Tokenizer) -> Result<Existing> {
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
pub(super) fn is_begun(folder: &Path) -> bool {
    journal_in(folder).is_some()
}

fn journal_in(folder: &Path) -> Option<Journal> {
    files::read_json(&folder.join(JOURNAL), "a journal").ok()
}

/// Counts and hashes the text, and finds the split point.
fn find_split(files: &TextFiles, corpus: &Path, on_event: &mut impl FnMut(Event) -> Result<()>) -> Result<SplitPoint> {
    let mut counts = Vec::new(); // of each block: position, characters, bytes of text
    let mut hash = Sha256::new();
    let (mut documents, mut boms, mut carriage_returns, mut position) = (0, 0, 0, FilePosition::default());
    for block in files.blocks(FilePosition::default(), None) {
        let block = block?;
        counts.push((position, block.text.chars().count() as u64, block.text.len() as u64));
        hash.update(&block.text);
        documents += usize::from(block.ends_file);
        boms += usize::from(block.had_bom);
        carriage_returns += block.carriage_returns;
        position = block.end;
        on_event(Event::Scanned(block.bytes))?;
    }
    for note in files.skipped().iter().cloned().chain(notes(boms, carriage_returns)) {
        on_event(Event::Note(note))?;
    }
    let characters: u64 = counts.iter().map(|&(_, characters, _)| characters).sum();
    ensure!(
        characters > 0,
        "corpus {} is empty; give a file or folder with text",
        corpus.display()
    );

    let mut left = train_part(characters as usize) as u64;
    let (mut split, mut split_offset) = (files.end(), 0);
    for &(position, characters, bytes) in &counts {
        if left < characters {
            split = files.position_of_character(position, left)?;
            let head = files
                .blocks(position, Some(split))
                .map(|block| Ok(block?.text.len() as u64))
                .sum::<Result<u64>>()?;
            split_offset += head;
            break;
        }
        (left, split_offset) = (left - characters, split_offset + bytes);
    }
    let stats = CorpusStats {
        documents,
        characters,
        bytes: counts.iter().map(|&(_, _, bytes)| bytes).sum(),
        sha256: hash::finish(hash),
        split_offset,
    };
    Ok(SplitPoint { stats, position: split })
}

/// Encodes text and writes it as shards.
struct ShardWriter<'a> {
    files: &'a TextFiles,
    tokenizer: &'a Tokenizer,
    special: SpecialTokens,
    dtype: TokenDtype,
    shard_text: u64,
}

impl ShardWriter<'_> {
    /// Writes the tokens of the text in `range`, up to the size of a shard, to `path`; the shard will be called `name`.
    /// Returns where the next one begins. Special tokens that are encoded as text are counted in `as_text`.
    fn write(
        &self,
        range: Range<FilePosition>,
        path: &Path,
        name: String,
        as_text: &mut BTreeMap<String, usize>,
        on_event: &mut impl FnMut(Event) -> Result<()>,
    ) -> Result<(ShardRecord, FilePosition)> {
        let (dtype, limit) = (self.dtype, range.end);
        let mut out = BufWriter::new(File::create(path)?);
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
            // Two blocks per thread are encoded in parallel and written in order. Where the shard ends does not depend on the
            // number of threads.
            let mut batch: Vec<TextBlock> = Vec::with_capacity(at_once);
            let mut left = self.shard_text - record.text_bytes;
            while batch.len() < at_once && left > 0 {
                let Some(block) = blocks.next() else { break };
                let block = block?;
                left = left.saturating_sub(block.text.len() as u64);
                batch.push(block);
            }
            let encoded = batch
                .par_iter()
                .map(|block| {
                    let ids = self.tokenizer.encode_with(&block.text, &self.special.into());
                    let mut ids = ids.with_context(|| self.files.name(block.start))?;
                    ids.extend(self.tokenizer.eos_token().filter(|_| block.ends_file));
                    let mut bytes = Vec::with_capacity(ids.len() * dtype.bytes());
                    dtype.write(&ids, &mut bytes);
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
                record.tokens += (bytes.len() / dtype.bytes()) as u64;
                record.text_bytes += block.text.len() as u64;
                next = block.end;
                on_event(Event::Encoded(block.bytes))?;
            }
        }
        out.flush()?;
        record.sha256 = hash::finish(hash);
        Ok((record, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{Bpe, CharTokenizer, Pattern, PreTokenizer};

    #[test]
    fn tokenizers_whose_tokens_depend_on_the_blocks_are_told() {
        assert!(encodes_lines_apart(&Tokenizer::gpt2().unwrap()));
        assert!(encodes_lines_apart(&Tokenizer::cl100k().unwrap()));
        assert!(encodes_lines_apart(&CharTokenizer::from_text("To be,\nrn").into()));
        assert!(encodes_lines_apart(&CharTokenizer::from_text("x").into()));

        let text = "To be,\nor not to be\n".repeat(9);
        let train = |pattern: PreTokenizer| Tokenizer::from(Bpe::train(&text, 262, pattern, &[], |_| ()).unwrap());
        assert!(encodes_lines_apart(&train(Pattern::Gpt2.into())));
        assert!(
            !encodes_lines_apart(&train("[^x]+".parse().unwrap())),
            "merges across lines"
        );

        let mut json = Tokenizer::gpt2().unwrap().to_json();
        json["pre_tokenizer"]["add_prefix_space"] = true.into();
        let spaced = Tokenizer::from_json(json, Path::new("tokenizer.json")).unwrap();
        assert!(!encodes_lines_apart(&spaced), "a space before each block");
    }
}

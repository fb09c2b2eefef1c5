//! Encodes text files into token shards: in parallel, in bounded memory, and resumable.

mod existing;
mod shards;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

pub(super) use self::existing::is_begun;
use self::existing::{Existing, JOURNAL, Journal, existing_in};
use self::shards::ShardWriter;
use super::corpus::{notes, train_part};
use super::manifest::{CorpusStats, MANIFEST, Manifest, VERSION};
use super::text_files::{BLOCK, FilePosition, TextFiles};
use super::tokens::TokenDtype;
use crate::config::SpecialTokens;
use crate::disk::durable;
use crate::disk::hash::{self, sha256, sha256_of_file};
use crate::disk::unfinished::Unfinished;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::folder::TOKENIZER;
use crate::tokenizer::ordinary_text_note;

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

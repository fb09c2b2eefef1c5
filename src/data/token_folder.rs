//! Folders of token files of other programs: nanoGPT's, llm.c's, build-nanogpt's.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::corpus::Split;
use super::dataset::CorpusRecord;
use super::pickle::{self, Value};
use super::token_files::{self, Layout};
use super::tokens::Tokens;
use crate::disk::files;
use crate::disk::hash::{sha256, sha256_of_file};
use crate::tokenizer::{CharTokenizer, Tokenizer};

/// nanoGPT's `prepare.py` stores the characters of its ids there.
const META: &str = "meta.pkl";
/// nanoGPT's pair of files, which takes precedence over all others.
const PAIR: [&str; 2] = ["train.bin", "val.bin"];

/// A folder of training files and validation files.
pub struct TokenFolder {
    /// Its path.
    pub folder: PathBuf,
    train: Vec<PathBuf>,
    val: Vec<PathBuf>,
    /// The characters of its `meta.pkl`, if there is one, or why it could not be read.
    meta: Option<Result<CharTokenizer>>,
    notes: Vec<String>,
}

impl TokenFolder {
    /// The token files in `folder`: `train.bin` and `val.bin`, or all `.bin` and `.npy` files with the word `train` or `val`
    /// in their names; `None` if there are none.
    ///
    /// # Errors
    /// There are files for only one of the two splits.
    pub fn find(folder: &Path) -> Result<Option<Self>> {
        let pair = PAIR.map(|name| folder.join(name));
        let (train, val) = if pair.iter().all(|file| file.is_file()) {
            let [train, val] = pair;
            (vec![train], vec![val])
        } else {
            (
                named(folder, &["train"]),
                named(folder, &["val", "valid", "validation"]),
            )
        };
        if train.is_empty() && val.is_empty() {
            return Ok(None);
        }
        let shown = folder.display();
        ensure!(
            !val.is_empty(),
            "{shown} has token files for training but none for validation; put a val.bin beside them"
        );
        ensure!(
            !train.is_empty(),
            "{shown} has token files for validation but none for training; put a train.bin beside them"
        );
        let meta = folder.join(META);
        let meta = meta.exists().then(|| characters(&meta));
        let note = match &meta {
            Some(Err(why)) => Some(format!("its {META} could not be used: {why:#}")),
            _ => None,
        };
        Ok(Some(Self {
            folder: folder.to_owned(),
            train,
            val,
            meta,
            notes: note.into_iter().collect(),
        }))
    }

    /// Notes for the user on how the folder was read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The tokenizer of the characters in its `meta.pkl`.
    ///
    /// # Errors
    /// There is no `meta.pkl`, or it has no characters.
    pub fn characters(&self) -> Result<CharTokenizer> {
        const HINT: &str = "name the tokenizer that made them, such as --tokenizer gpt2";
        let shown = self.folder.display();
        match &self.meta {
            Some(Ok(characters)) => Ok(characters.clone()),
            Some(Err(why)) => bail!("{shown} contains tokens, and its {META} could not be used: {why:#}; {HINT}"),
            None => bail!("{shown} contains tokens, not text; {HINT}"),
        }
    }

    /// The name of the default tokenizer for these files.
    pub fn own_tokenizer(&self) -> &'static str {
        if self.meta.is_some() { "char" } else { "gpt2" }
    }

    /// Checks that a tokenizer matches the characters in `meta.pkl`.
    ///
    /// # Errors
    /// It has other ids for them.
    pub fn check(&self, tokenizer: &Tokenizer) -> Result<()> {
        let Some(Ok(characters)) = &self.meta else {
            return Ok(());
        };
        let same = |id: u32| {
            let character = characters.decode(&[id])?;
            anyhow::Ok(tokenizer.encode(&character).is_ok_and(|ids| ids == [id]))
        };
        for id in 0..characters.vocab_size() as u32 {
            ensure!(
                same(id)?,
                "the ids are those of the {1} characters in {0}, which do not match the tokenizer ({2} tokens); omit --tokenizer, or start from a model of these characters",
                self.folder.join(META).display(),
                characters.vocab_size(),
                tokenizer.vocab_size()
            );
        }
        Ok(())
    }

    /// The tokens of a split, which must be that tokenizer's.
    ///
    /// # Errors
    /// As [`check`](Self::check); a file that is damaged or has no ids; an id that is out of range.
    pub fn tokens(&self, tokenizer: &Tokenizer, split: Split) -> Result<Tokens> {
        self.check(tokenizer)?;
        let open = |file: &&PathBuf| token_files::open(file, tokenizer.vocab_size());
        Ok(Tokens::Shards(
            self.files(split).iter().map(open).collect::<Result<_>>()?,
        ))
    }

    /// The layout of each file of a split.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn layouts(&self, split: Split, vocab_size: usize) -> Result<Vec<Layout>> {
        let layout = |file: &&PathBuf| token_files::layout(file, vocab_size);
        self.files(split).iter().map(layout).collect()
    }

    fn files(&self, split: Split) -> Vec<&PathBuf> {
        let (train, val) = (&self.train, &self.val);
        match split {
            Split::Train => train.iter().collect(),
            Split::Val => val.iter().collect(),
            Split::All => train.iter().chain(val).collect(),
        }
    }

    /// Identifies the text.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn record(&self) -> Result<CorpusRecord> {
        let hashes = self.files(Split::All).into_iter().map(|file| sha256_of_file(file));
        let bytes = self.train.iter().map(|file| Ok(fs::metadata(file)?.len()));
        Ok(CorpusRecord {
            sha256: sha256(hashes.collect::<Result<Vec<_>>>()?.concat()),
            split_offset: bytes.sum::<Result<u64>>()?,
        })
    }
}

/// The token files of a folder with one of those words in their names, sorted by name.
fn named(folder: &Path, words: &[&str]) -> Vec<PathBuf> {
    let is_token_file = |path: &PathBuf| {
        let is_of_ids = path.extension().is_some_and(|end| end == "bin" || end == "npy");
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        let mut parts = stem.split(|character: char| !character.is_ascii_alphabetic());
        is_of_ids && path.is_file() && parts.any(|part| words.contains(&part))
    };
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_token_file)
        .collect();
    files.sort();
    files
}

/// The characters of nanoGPT's `meta.pkl`: `itos`, a dict from id to character, and `stoi`, its inverse.
fn characters(path: &Path) -> Result<CharTokenizer> {
    let meta = pickle::read(&files::read(path)?)?;
    let (Some(itos), Some(stoi)) = (meta.get("itos"), meta.get("stoi")) else {
        bail!("it has no itos and stoi, which nanoGPT's has");
    };
    let itos = by_id(itos)?;
    let count = itos.len();
    if let Some(size) = meta.get("vocab_size") {
        ensure!(
            *size == Value::Int(count as i64),
            "its vocab_size is not {count}, the number of its characters"
        );
    }
    let mut ids = HashMap::new();
    for (key, id) in entries(stoi)? {
        let (Value::Text(text), Value::Int(id)) = (key, id) else {
            bail!("its stoi does not map characters to ids");
        };
        ids.insert(text.chars().next().filter(|first| first.len_utf8() == text.len()), *id);
    }
    let same = |(id, character): (i64, &char)| ids.get(&Some(*character)) == Some(&id);
    ensure!(
        ids.len() == count && (0..).zip(&itos).all(same),
        "its stoi is not the inverse of its itos"
    );
    Ok(CharTokenizer::from_characters(itos))
}

/// Characters sorted by id, from a dict or a list.
fn by_id(itos: &Value) -> Result<Vec<char>> {
    let numbered: Vec<(i64, &Value)> = match itos {
        Value::List(values) => (0..).zip(values).collect(),
        _ => entries(itos)?
            .iter()
            .map(|(id, value)| match id {
                Value::Int(id) => Ok((*id, value)),
                _ => bail!("its itos does not map ids to characters"),
            })
            .collect::<Result<_>>()?,
    };
    let mut sorted = numbered;
    sorted.sort_by_key(|&(id, _)| id);
    ensure!(
        !sorted.is_empty() && (0..).zip(&sorted).all(|(expected, (id, _))| expected == *id),
        "its ids are not 0, 1, 2, … without gaps"
    );
    let character = |(id, value): (i64, &Value)| {
        let text = match value {
            Value::Text(text) => text,
            _ => bail!("its entry for id {id} is not a string"),
        };
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => Ok(character),
            _ => bail!("its entry for id {id}, {text:?}, is not a single character"),
        }
    };
    sorted.into_iter().map(character).collect()
}

fn entries(dict: &Value) -> Result<&[(Value, Value)]> {
    match dict {
        Value::Dict(entries) => Ok(entries),
        _ => bail!("its itos and stoi are not dicts, as nanoGPT's are"),
    }
}

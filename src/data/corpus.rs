//! The training corpus.

use std::path::Path;

use anyhow::{Result, ensure};

use super::text_files::{FilePosition, TextFiles};
use crate::config::DEFAULT_CORPUS;
use crate::disk::hash::sha256;

/// The corpus that comes with the program: Shakespeare's plays, see `assets/README.md`.
const SHAKESPEARE: &str = include_str!("../../assets/shakespeare.txt");

/// How many of a corpus's characters (or of a text's tokens) are its training split, the first nine tenths; the rest is the
/// validation split.
pub fn train_part(whole: usize) -> usize {
    (whole as f64 * 0.9) as usize
}

/// A split of a corpus. A folder of tokens has splits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Split {
    /// The first 90 % of the characters
    Train,
    /// The last 10 %
    Val,
    /// The whole text
    All,
}

/// A normalised text: without byte-order marks, with LF line endings.
pub struct Corpus {
    /// Its name in the names of runs: the file's or folder's name without extension.
    pub name: String,
    text: String,
    /// The byte at which the validation split begins.
    split_offset: usize,
    /// Notes on how the text was normalised.
    pub notes: Vec<String>,
}

impl Corpus {
    /// The corpus of that name: [`DEFAULT_CORPUS`], or else a path.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn open(name: &str) -> Result<Self> {
        if name == DEFAULT_CORPUS {
            Ok(Self::from_text("shakespeare".into(), SHAKESPEARE.into(), Vec::new()))
        } else {
            Self::read(Path::new(name))
        }
    }

    /// A UTF-8 text file, or all files below a folder, sorted by path, without hidden ones. Byte-order marks are removed and
    /// CRLF becomes LF.
    ///
    /// # Errors
    /// The path does not exist, or the text is empty or not UTF-8 (the error names the file and the first invalid byte).
    pub fn read(path: &Path) -> Result<Self> {
        let files = TextFiles::find(path)?;
        let mut text = String::new();
        let (mut boms, mut carriage_returns) = (0, 0);
        for block in files.blocks(FilePosition::default(), None) {
            let block = block?;
            text.push_str(&block.text);
            boms += usize::from(block.had_bom);
            carriage_returns += block.carriage_returns;
        }
        ensure!(
            !text.is_empty(),
            "corpus {} is empty; give a file or folder with text",
            path.display()
        );
        let name = path
            .file_stem()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let skipped = files.skipped().iter().cloned();
        let notes = skipped.chain(notes(boms, carriage_returns)).collect();
        Ok(Self::from_text(name, text, notes))
    }

    fn from_text(name: String, text: String, notes: Vec<String>) -> Self {
        let characters = text.chars().count();
        let train_characters = train_part(characters);
        let split_offset = text
            .char_indices()
            .nth(train_characters)
            .map_or(text.len(), |(at, _)| at);
        Self {
            name,
            text,
            split_offset,
            notes,
        }
    }

    /// The text of a split.
    pub fn text(&self, split: Split) -> &str {
        match split {
            Split::Train => &self.text[..self.split_offset],
            Split::Val => &self.text[self.split_offset..],
            Split::All => &self.text,
        }
    }

    /// The byte at which the validation split begins.
    pub fn split_offset(&self) -> usize {
        self.split_offset
    }

    /// SHA-256 of the normalised text, in hexadecimal.
    pub fn sha256(&self) -> String {
        sha256(&self.text)
    }
}

/// Notes on how a text was normalised.
pub(super) fn notes(boms: usize, carriage_returns: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if boms > 0 {
        notes.push(format!("removed {boms} byte-order mark(s)"));
    }
    if carriage_returns > 0 {
        notes.push(format!("converted {carriage_returns} CRLF line endings to LF"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_cut_is_at_ninety_percent_of_the_characters() {
        let text = "äöü€😀".repeat(20);
        let corpus = Corpus::from_text("t".into(), text, Vec::new());
        assert_eq!(corpus.text(Split::Train).chars().count(), 90);
        assert_eq!(corpus.text(Split::Val).chars().count(), 10);
    }

    #[test]
    fn marks_and_carriage_returns_go_and_are_said() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.txt"), "\u{feff}two\r\n").unwrap();
        fs::write(folder.path().join("a.txt"), "one\n").unwrap();
        fs::write(folder.path().join(".hidden"), [0xff]).unwrap();
        let corpus = Corpus::read(folder.path()).unwrap();
        assert_eq!(corpus.text(Split::All), "one\ntwo\n");
        assert_eq!(corpus.notes.len(), 2);
    }
}

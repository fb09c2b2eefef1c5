//! The training corpus.

use std::path::Path;

use anyhow::{Result, ensure};

use super::text_files::{Place, TextFiles};
use crate::config::DEFAULT_CORPUS;
use crate::disk::hash::sha256;

/// The corpus that comes with the program: Shakespeare's plays, see `assets/README.md`.
const SHAKESPEARE: &str = include_str!("../../assets/shakespeare.txt");

/// The fraction of a corpus's characters that is trained on; the rest is for validation.
pub const TRAIN_FRACTION: f64 = 0.9;

/// A part of a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Split {
    /// The first 90 % of the characters.
    Train,
    /// The last 10 %.
    Val,
    /// The whole text.
    All,
}

/// A text, normalised: without byte-order marks, its lines ending in LF.
pub struct Corpus {
    /// What it is called in the names of runs: the file's or folder's name without its ending.
    pub name: String,
    text: String,
    /// Where validation begins, in bytes.
    cut: usize,
    /// What was changed in reading, for the user to know.
    pub remarks: Vec<String>,
}

impl Corpus {
    /// The corpus of that name: [`DEFAULT_CORPUS`], or else a path.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn open(name: &str) -> Result<Self> {
        if name == DEFAULT_CORPUS {
            Self::from_text("shakespeare".into(), SHAKESPEARE.into(), Vec::new())
        } else {
            Self::read(Path::new(name))
        }
    }

    /// A UTF-8 text file, or all files below a folder in the order of their paths (hidden ones left out). Byte-order
    /// marks are dropped and CRLF becomes LF.
    ///
    /// # Errors
    /// Nothing there, not UTF-8 (the file and the offset of the first bad byte), or empty.
    pub fn read(path: &Path) -> Result<Self> {
        let files = TextFiles::find(path)?;
        let mut text = String::new();
        let (mut marks, mut carriage_returns) = (0, 0);
        for block in files.blocks(Place::default(), None) {
            let block = block?;
            text.push_str(&block.text);
            marks += usize::from(block.had_mark);
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
        let left_out = files.left_out().iter().cloned();
        Self::from_text(name, text, left_out.chain(remarks(marks, carriage_returns)).collect())
    }

    fn from_text(name: String, text: String, remarks: Vec<String>) -> Result<Self> {
        let characters = text.chars().count();
        let train_characters = (characters as f64 * TRAIN_FRACTION) as usize;
        let cut = text
            .char_indices()
            .nth(train_characters)
            .map_or(text.len(), |(at, _)| at);
        Ok(Self {
            name,
            text,
            cut,
            remarks,
        })
    }

    pub fn text(&self, split: Split) -> &str {
        match split {
            Split::Train => &self.text[..self.cut],
            Split::Val => &self.text[self.cut..],
            Split::All => &self.text,
        }
    }

    /// The byte at which validation begins.
    pub fn cut(&self) -> usize {
        self.cut
    }

    /// SHA-256 of the text as trained on, in hexadecimal.
    pub fn sha256(&self) -> String {
        sha256(&self.text)
    }
}

/// What was changed in reading, for the user to know.
pub(super) fn remarks(marks: usize, carriage_returns: usize) -> Vec<String> {
    let mut remarks = Vec::new();
    if marks > 0 {
        remarks.push(format!("dropped {marks} byte-order mark(s)"));
    }
    if carriage_returns > 0 {
        remarks.push(format!("turned {carriage_returns} CRLF line ends into LF"));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_cut_is_at_ninety_percent_of_the_characters() {
        let text = "äöü€😀".repeat(20);
        let corpus = Corpus::from_text("t".into(), text, Vec::new()).unwrap();
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
        assert_eq!(corpus.remarks.len(), 2);
    }
}

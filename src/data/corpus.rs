//! The text that a run learns from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// The name of the corpus that comes with the program: Shakespeare's plays, see `assets/README.md`.
pub const DEFAULT_CORPUS: &str = "shakespeare";

const SHAKESPEARE: &str = include_str!("../../assets/shakespeare.txt");

/// The share of a corpus's characters that is trained on; the rest is for validation.
const TRAIN_SHARE: f64 = 0.9;

/// A part of a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Split {
    /// The first 90 % of the characters.
    Train,
    /// The last 10 %.
    Val,
    All,
}

/// A text, read and made regular.
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
            Self::from_text(DEFAULT_CORPUS.into(), SHAKESPEARE.into(), Vec::new())
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
        let mut files = Vec::new();
        list_files(path, &mut files)?;
        ensure!(
            !files.is_empty(),
            "corpus {}: the folder holds no files; put text files into it",
            path.display()
        );
        let mut text = String::new();
        let (mut marks, mut carriage_returns) = (0, 0);
        for file in &files {
            let bytes = fs::read(file).with_context(|| format!("corpus {} cannot be read", file.display()))?;
            let part = String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                let byte = error.as_bytes()[at];
                anyhow::anyhow!(
                    "corpus {}: not UTF-8 text, byte {at} is {byte:#04x}; convert it (iconv -t utf-8) or leave the file out",
                    file.display()
                )
            })?;
            let part = match part.strip_prefix('\u{feff}') {
                Some(rest) => {
                    marks += 1;
                    rest
                }
                None => &part,
            };
            carriage_returns += part.matches("\r\n").count();
            text.push_str(&part.replace("\r\n", "\n"));
        }
        let mut remarks = Vec::new();
        if marks > 0 {
            remarks.push(format!("dropped {marks} byte-order mark(s)"));
        }
        if carriage_returns > 0 {
            remarks.push(format!("turned {carriage_returns} CRLF line ends into LF"));
        }
        let name = path
            .file_stem()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        ensure!(
            !text.is_empty(),
            "corpus {} is empty; it needs text to learn from",
            path.display()
        );
        Self::from_text(name, text, remarks)
    }

    fn from_text(name: String, text: String, remarks: Vec<String>) -> Result<Self> {
        let characters = text.chars().count();
        let train_characters = (characters as f64 * TRAIN_SHARE) as usize;
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
        hex(&Sha256::digest(self.text.as_bytes()))
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn list_files(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let kind = fs::metadata(path)
        .with_context(|| format!("corpus {} cannot be opened; check the path", path.display()))?
        .file_type();
    if kind.is_file() {
        files.push(path.to_owned());
    } else if kind.is_dir() {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let mut paths: Vec<_> = entries
            .with_context(|| format!("corpus folder {} cannot be read", path.display()))?
            .into_iter()
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        for path in paths {
            list_files(&path, files)?;
        }
    } else {
        bail!("corpus {} is neither a file nor a folder", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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

//! Text files of any size, block by block.
//!
//! A block ends after a newline with no white space on either side, or at the end of the file. The split patterns of GPT-2 and
//! GPT-4 end a chunk there too, and a character tokenizer has no chunks, so that with these tokenizers blocks encode to the
//! same tokens as the whole text. Others may encode the first or the last token of a block differently: those that begin a text
//! with a space, or split it by a regular expression that crosses lines. Where a block ends depends only on where it begins, so
//! that an interrupted run continues with the same blocks.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::text_finder::TextFinder;
use crate::disk::files;

/// Size of a block in bytes, unless a line is longer.
pub(super) const BLOCK: usize = 1 << 20;
/// Maximum size of a block without a line end; it is then split between two characters.
const MAX_BLOCK: usize = 1 << 24;

/// The files of a corpus, sorted by path.
pub struct TextFiles {
    files: Vec<TextFile>,
    /// Strings that are never split between two blocks.
    atomic: Vec<String>,
    skipped: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TextFile {
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// A position in the files: byte `offset` of file number `file`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct FilePosition {
    /// Index of the file.
    pub file: usize,
    /// Offset in bytes.
    pub offset: u64,
}

/// A block of normalised text: without byte-order mark, with LF line endings.
pub struct TextBlock {
    /// The normalised text.
    pub text: String,
    /// Where it begins.
    pub start: FilePosition,
    /// Its size on disk, in bytes.
    pub bytes: u64,
    /// Where the next block begins.
    pub end: FilePosition,
    /// Whether it is the last of its file.
    pub ends_file: bool,
    /// Whether it began with a byte-order mark.
    pub had_bom: bool,
    /// Number of CRLF line endings.
    pub carriage_returns: usize,
}

impl TextFiles {
    /// A file, or all files below a folder: each once, even if it has several names. Hidden files and this program's output
    /// folders are skipped.
    ///
    /// # Errors
    /// The path does not exist, is a folder without files, or is a run.
    pub fn find(path: &Path) -> Result<Self> {
        let found = TextFinder::find(path)?;
        let skipped = found.notes();
        ensure!(
            !found.files.is_empty(),
            "corpus {}: the folder has no text files{}; put some into it",
            path.display(),
            skipped.iter().map(|note| format!(" ({note})")).collect::<String>()
        );
        Ok(Self {
            files: found.files,
            skipped,
            atomic: Vec::new(),
        })
    }

    /// The same files, with strings that are never split between two blocks.
    pub fn with_atomic_strings<'a>(self, texts: impl IntoIterator<Item = &'a String>) -> Self {
        Self {
            atomic: texts.into_iter().cloned().collect(),
            ..self
        }
    }

    /// Notes on what was skipped.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Total size on disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes_before(self.end())
    }

    /// Bytes on disk before `position`.
    pub fn bytes_before(&self, position: FilePosition) -> u64 {
        self.files[..position.file].iter().map(|file| file.bytes).sum::<u64>() + position.offset
    }

    /// A position, for messages.
    pub fn name(&self, position: FilePosition) -> String {
        let path = self
            .files
            .get(position.file)
            .map(|file| file.path.display().to_string());
        format!("corpus {}, after byte {}", path.unwrap_or_default(), position.offset)
    }

    /// The position after the last file.
    pub fn end(&self) -> FilePosition {
        FilePosition {
            file: self.files.len(),
            offset: 0,
        }
    }

    /// Checks that a position exists.
    ///
    /// # Errors
    /// It is in none of the files.
    pub fn check(&self, position: FilePosition) -> Result<()> {
        let bytes = self.files.get(position.file).map_or(0, |file| file.bytes);
        ensure!(
            position.file <= self.files.len() && position.offset <= bytes,
            "the text has no byte {} in file {}",
            position.offset,
            position.file
        );
        Ok(())
    }

    /// The blocks from `start` to `end` (excluded; `None` is the end of the last file). A block never crosses `end`.
    pub fn blocks(&self, start: FilePosition, end: Option<FilePosition>) -> impl Iterator<Item = Result<TextBlock>> {
        let mut position = start;
        std::iter::from_fn(move || {
            if position.file >= self.files.len() || end.is_some_and(|end| position >= end) {
                return None;
            }
            let block = self.block(position, end);
            match &block {
                Ok(block) => position = block.end,
                Err(_) => position.file = self.files.len(),
            }
            Some(block)
        })
    }

    fn block(&self, start: FilePosition, end: Option<FilePosition>) -> Result<TextBlock> {
        let TextFile { path, bytes } = &self.files[start.file];
        let limit = match end {
            Some(end) if end.file == start.file => end.offset.min(*bytes),
            _ => *bytes,
        };
        let file = files::open(path).with_context(|| format!("corpus {} cannot be read", path.display()))?;
        let mut size = BLOCK;
        let (raw, cut) = loop {
            let want = size.min((limit - start.offset) as usize);
            let mut raw = vec![0; want];
            file.read_exact_at(&mut raw, start.offset)
                .with_context(|| format!("corpus {} was truncated while it was read", path.display()))?;
            if start.offset + want as u64 == limit {
                break (raw, want);
            }
            if let Some(cut) = last_line_end(&raw) {
                break (raw, cut);
            }
            if size >= MAX_BLOCK {
                // Before the last character that begins here, and not inside a CRLF.
                let cut = (1..want).rev().find(|&at| raw[at] & 0xc0 != 0x80 && raw[at] != b'\n');
                let cut = cut.unwrap_or(want);
                let cut = self.cut_before_atomic(&raw, cut).unwrap_or(cut);
                break (raw, cut);
            }
            size *= 2;
        };
        let text = match std::str::from_utf8(&raw[..cut]) {
            Ok(text) => text,
            Err(error) => {
                let at = error.valid_up_to();
                bail!(
                    "corpus {}: not UTF-8 text, byte {} is {:#04x}; convert it (iconv -t utf-8) or leave the file out",
                    path.display(),
                    start.offset + at as u64,
                    raw[at]
                );
            }
        };
        let unmarked = if start.offset == 0 {
            text.strip_prefix('\u{feff}')
        } else {
            None
        };
        let carriage_returns = text.matches("\r\n").count();
        let text = unmarked.unwrap_or(text);
        let end_offset = start.offset + cut as u64;
        let ends_file = end_offset == *bytes;
        Ok(TextBlock {
            text: if carriage_returns > 0 {
                text.replace("\r\n", "\n")
            } else {
                text.to_owned()
            },
            start,
            bytes: cut as u64,
            end: if ends_file {
                FilePosition {
                    file: start.file + 1,
                    offset: 0,
                }
            } else {
                FilePosition {
                    file: start.file,
                    offset: end_offset,
                }
            },
            ends_file,
            had_bom: unmarked.is_some(),
            carriage_returns,
        })
    }

    /// Start of the atomic string that a cut at `cut` would split, if there is one and it is not at the very beginning.
    fn cut_before_atomic(&self, raw: &[u8], cut: usize) -> Option<usize> {
        let starts = self.atomic.iter().filter_map(|text| {
            let mut starts = cut.saturating_sub(text.len() - 1).max(1)..cut;
            starts.find(|&start| {
                let common = text.len().min(raw.len() - start);
                raw[start..start + common] == text.as_bytes()[..common]
            })
        });
        starts.min()
    }

    /// The position of character number `skip` (from 0) of the block that begins at `start`.
    ///
    /// # Errors
    /// The block cannot be read.
    pub fn position_of_character(&self, start: FilePosition, mut skip: u64) -> Result<FilePosition> {
        let block = self.block(start, None)?;
        let mut offset = start.offset + if block.had_bom { 3 } else { 0 };
        let file = files::open(&self.files[start.file].path)?;
        let mut raw = vec![0; (start.offset + block.bytes - offset) as usize];
        file.read_exact_at(&mut raw, offset)?;
        let text = std::str::from_utf8(&raw)?;
        let mut characters = text.chars().peekable();
        while skip > 0 {
            let Some(character) = characters.next() else { break };
            offset += character.len_utf8() as u64;
            if character == '\r' && characters.peek() == Some(&'\n') {
                continue; // CRLF counts as one character
            }
            skip -= 1;
        }
        Ok(FilePosition {
            file: start.file,
            offset,
        })
    }
}

/// The end of the last complete line in `raw` with no white space on either side of its newline.
fn last_line_end(raw: &[u8]) -> Option<usize> {
    (1..raw.len()).rev().filter(|&at| raw[at - 1] == b'\n').find(|&at| {
        let line = raw[..at - 1].strip_suffix(b"\r").unwrap_or(&raw[..at - 1]);
        let is_text = |character: Option<char>| character.is_some_and(|character| !character.is_whitespace());
        is_text(last_character(line)) && is_text(first_character(&raw[at..]))
    })
}

/// The last character of `bytes`, if it is complete.
fn last_character(bytes: &[u8]) -> Option<char> {
    let start = (0..bytes.len()).rev().take(4).find(|&at| bytes[at] & 0xc0 != 0x80)?;
    first_character(&bytes[start..])
}

/// The character that `bytes` begin with, if it is whole.
fn first_character(bytes: &[u8]) -> Option<char> {
    let head = &bytes[..bytes.len().min(4)];
    let whole = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).ok()?,
    };
    whole.chars().next()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(files: &TextFiles, start: FilePosition, end: Option<FilePosition>) -> Vec<TextBlock> {
        files.blocks(start, end).map(Result::unwrap).collect()
    }

    #[test]
    fn blocks_add_up_to_the_text() {
        let folder = tempfile::tempdir().unwrap();
        let line = "Ein Männlein steht im Walde,\r\n\r\n  ganz still und stumm\r\n";
        fs::write(
            folder.path().join("a.txt"),
            "\u{feff}".to_owned() + &line.repeat(60_000),
        )
        .unwrap();
        fs::write(folder.path().join("b.txt"), "€".repeat(7 << 20)).unwrap(); // a line of over 16 MiB
        fs::write(folder.path().join("c.txt"), "").unwrap();
        let files = TextFiles::find(folder.path()).unwrap();
        let blocks = read(&files, FilePosition::default(), None);
        let text: String = blocks.iter().map(|block| block.text.as_str()).collect();
        let expected = line.replace("\r\n", "\n").repeat(60_000) + &"€".repeat(7 << 20);
        assert!(text == expected);
        assert_eq!(blocks.iter().map(|block| block.bytes).sum::<u64>(), files.bytes());
        assert_eq!(
            blocks.iter().map(|block| block.carriage_returns).sum::<usize>(),
            180_000
        );
        assert!(blocks.len() > 4);
        assert!(
            blocks[0].text.ends_with("stumm\n"),
            "between lines, not before white space"
        );
    }

    #[test]
    fn reading_can_begin_at_any_block_and_end_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.txt"), "\u{feff}äöü\r\nabc\r\n".repeat(100_000)).unwrap();
        let files = TextFiles::find(folder.path()).unwrap();
        let all = read(&files, FilePosition::default(), None);
        let again = read(&files, all[0].end, None);
        assert!(
            again
                .iter()
                .map(|block| &block.text)
                .eq(all[1..].iter().map(|block| &block.text))
        );

        let text: String = all.iter().map(|block| block.text.as_str()).collect();
        for characters in [0, 1, 3, 4, 5, 1000, 77_777] {
            let position = files
                .position_of_character(FilePosition::default(), characters)
                .unwrap();
            let head: String = read(&files, FilePosition::default(), Some(position))
                .iter()
                .map(|b| b.text.as_str())
                .collect();
            let expected: String = text.chars().take(characters as usize).collect();
            assert!(head == expected, "{characters}");
        }
    }
}

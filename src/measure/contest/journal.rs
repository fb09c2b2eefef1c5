//! Append-only JSONL journal of finished measurements; a line is on disk when `append` returns.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::disk::hint::with_hint;
use crate::disk::{durable, files};

/// A journal, locked for this process.
pub struct Journal<T> {
    path: PathBuf,
    file: File,
    lines: Vec<T>,
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Opens the file, or creates it. An incomplete last line, which a process that died may have left, is truncated.
    ///
    /// # Errors
    /// It cannot be read or written, another process has it open, or a line of it is of something else.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let _made = durable::make_parents(path)?;
        if path.exists() {
            // Only to refuse a pipe or a device, which has no end.
            files::open(path).with_context(|| format!("{shown} cannot be read"))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("{shown} cannot be written"))?;
        file.try_lock()
            .with_context(|| format!("{shown} is being written by another process; wait for it"))?;
        let bytes =
            files::read_up_to(&file, files::MAX_FILE_BYTES).with_context(|| format!("{shown} cannot be read"))?;
        let is_json = |line: &[u8]| serde_json::from_slice::<IgnoredAny>(line).is_ok();
        let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        // An editor may have left out the last newline.
        let (whole, half) = match is_json(&bytes[end..]) {
            true => (&bytes[..], &[][..]),
            false => bytes.split_at(end),
        };
        let of_something_else = |number: usize| {
            format!(
                "line {} of {shown} is of something else; name another file, or move that one away",
                number + 1
            )
        };
        let mut lines = Vec::new();
        for (number, line) in whole.split_inclusive(|&byte| byte == b'\n').enumerate() {
            lines.push(serde_json::from_slice(line).with_context(|| of_something_else(number))?);
        }
        // Only this program's journals are truncated; any other file must keep even an incomplete line.
        ensure!(half.is_empty() || !lines.is_empty(), of_something_else(0));
        let needs_end = !whole.is_empty() && !whole.ends_with(b"\n");
        file.set_len(whole.len() as u64)
            .and_then(|()| file.write_all(if needs_end { b"\n" } else { b"" }))
            .with_context(|| format!("{shown} cannot be written"))?;
        durable::sync_folder(durable::parent(path))?;
        Ok(Self {
            path: path.to_owned(),
            lines,
            file,
        })
    }

    /// The lines so far.
    pub fn lines(&self) -> &[T] {
        &self.lines
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line and flushes it to disk.
    ///
    /// # Errors
    /// The disk is full or can't be written; the file is unchanged then.
    pub fn append(&mut self, line: T) -> Result<()> {
        let before = self.file.metadata()?.len();
        let text = serde_json::to_string(&line)? + "\n";
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        if written.is_err() {
            let _ = self.file.set_len(before);
        }
        written.map_err(|error| {
            let what = format_args!("{} cannot be written (run this again then)", self.path.display());
            with_hint(error.into(), what)
        })?;
        self.lines.push(line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_stay_and_half_a_line_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/lines.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.append("one".to_owned()).unwrap();
        assert!(Journal::<String>::open(&path).is_err(), "one process at a time");
        drop(journal);
        fs::write(&path, "\"one\"\n\"tw").unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.lines(), ["one"]);
        journal.append("two".to_owned()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "\"one\"\n\"two\"\n");
        drop(journal);
        let error = format!("{:#}", Journal::<u64>::open(&path).err().unwrap());
        assert!(error.contains("line 1 of") && error.contains("lines.jsonl"), "{error}");

        fs::write(&path, "\"one\"\n\"two\"").unwrap();
        let mut journal = Journal::open(&path).unwrap();
        journal.append("three".to_owned()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "\"one\"\n\"two\"\n\"three\"\n");
        drop(journal);
        fs::write(&path, "{\"of\": \"another\"}").unwrap();
        assert!(Journal::<String>::open(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"of\": \"another\"}");

        let notes = folder.path().join("notes.txt");
        for text in ["no end to this line", "{ nor to this }"] {
            fs::write(&notes, text).unwrap();
            assert!(Journal::<String>::open(&notes).is_err());
            assert_eq!(fs::read_to_string(&notes).unwrap(), text);
        }
        assert!(Journal::<String>::open(Path::new("/dev/zero")).is_err());
    }
}

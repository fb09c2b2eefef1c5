//! Finds the text files below a folder: each once, without this program's own output.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::manifest::MANIFEST;
use super::prepare;
use super::text_files::TextFile;
use crate::tokenizer::folder::{MODEL_CONFIG, TOKENIZER, TOKENIZER_CONFIG};

/// Maximum number of names in a note.
const MAX_LISTED: usize = 3;

/// The files found so far.
#[derive(Default)]
pub(super) struct TextFinder {
    /// Sorted by path.
    pub files: Vec<TextFile>,
    /// Device and inode of files and folders, so that a file with two names counts once.
    seen: HashSet<(u64, u64)>,
    /// Links, followed last, because their targets may be among the files and folders.
    links: BTreeSet<PathBuf>,
    duplicates: Vec<PathBuf>,
    program_outputs: Vec<PathBuf>,
}

impl TextFinder {
    /// Finds the files below a folder, or the file itself.
    ///
    /// # Errors
    /// The path does not exist, is a run, cannot be read, or is neither a file nor a folder.
    pub fn find(path: &Path) -> Result<Self> {
        let mut finder = Self::default();
        ensure!(
            !is_run(path),
            "corpus {} is a run, not a text; give the corpus that its config.toml names",
            path.display()
        );
        finder.visit(path, &metadata(path)?)?;
        while let Some(link) = finder.links.pop_first() {
            let target = metadata(&link)?;
            match is_program_output(&link) {
                true => finder.program_outputs.push(link),
                false => finder.visit(&link, &target)?,
            }
        }
        finder.files.sort();
        Ok(finder)
    }

    /// What was skipped and why, one line each.
    pub fn notes(&self) -> Vec<String> {
        let reasons = [
            (&self.duplicates, "links to files that are already in the corpus"),
            (
                &self.program_outputs,
                "which mlx-gpt wrote: runs, models, tokenizers, tokens",
            ),
        ];
        let named = reasons.iter().filter(|(paths, _)| !paths.is_empty());
        named
            .map(|(paths, why)| {
                let mut names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                names.sort();
                let more = if names.len() > MAX_LISTED { ", …" } else { "" };
                names.truncate(MAX_LISTED);
                format!("skipped {}{more}, {why}", names.join(", "))
            })
            .collect()
    }

    fn visit(&mut self, path: &Path, found: &Metadata) -> Result<()> {
        if !found.is_file() && !found.is_dir() {
            bail!(
                "corpus {} is neither a file nor a folder; write its text to a regular file first",
                path.display()
            );
        }
        if !self.seen.insert((found.dev(), found.ino())) {
            self.duplicates.push(path.to_owned());
        } else if found.is_file() {
            self.files.push(TextFile {
                path: path.to_owned(),
                bytes: found.len(),
            });
        } else {
            self.enter(path)?;
        }
        Ok(())
    }

    fn enter(&mut self, folder: &Path) -> Result<()> {
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let mut paths: Vec<_> = entries
            .with_context(|| format!("corpus folder {} cannot be read", folder.display()))?
            .into_iter()
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        for path in paths {
            let named = fs::symlink_metadata(&path);
            if named.is_ok_and(|named| named.is_symlink()) {
                self.links.insert(path);
            } else if is_program_output(&path) {
                self.program_outputs.push(path);
            } else {
                self.visit(&path, &metadata(&path)?)?;
            }
        }
        Ok(())
    }
}

fn metadata(path: &Path) -> Result<Metadata> {
    fs::metadata(path).with_context(|| format!("corpus {} cannot be opened; check the path", path.display()))
}

/// Whether a folder was written by this program, whose output must not become training data.
fn is_program_output(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    folder.is_dir()
        && (is_run(folder)
            || is_lessons(folder)
            || prepare::is_begun(folder)
            || has("curves.jsonl")
            || (has(TOKENIZER) && [TOKENIZER_CONFIG, MODEL_CONFIG, MANIFEST].into_iter().any(has)))
}

fn is_run(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has("config.toml") && (has(".lock") || has("metrics.jsonl"))
}

/// Whether it is a folder of lessons: their runs and the figures of the chapters.
fn is_lessons(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    ["figures", "shown"].into_iter().any(|name| folder.join(name).is_dir())
        && entries.any(|entry| is_run(&entry.path()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(corpus: &Path) -> (Vec<String>, String) {
        let finder = TextFinder::find(corpus).unwrap();
        let relative = |file: &TextFile| file.path.strip_prefix(corpus).unwrap().display().to_string();
        (finder.files.iter().map(relative).collect(), finder.notes().join("\n"))
    }

    #[test]
    fn a_text_with_two_names_is_one_text_and_links_are_left_out_first() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = folder.path().join("corpus");
        fs::create_dir_all(corpus.join("letters")).unwrap();
        fs::write(corpus.join("letters/b.txt"), "b").unwrap();
        fs::write(corpus.join("z.txt"), "z").unwrap();
        fs::write(folder.path().join("elsewhere.txt"), "e").unwrap();
        assert_eq!(found(&corpus).1, "");
        // Before and behind what they lead to, to files and folders, in circles, twice to the same.
        symlink("z.txt", corpus.join("a.txt")).unwrap();
        symlink("letters", corpus.join("also")).unwrap();
        symlink("..", corpus.join("letters/up")).unwrap();
        symlink("../elsewhere.txt", corpus.join("e1.txt")).unwrap();
        symlink("../elsewhere.txt", corpus.join("e2.txt")).unwrap();
        fs::hard_link(corpus.join("z.txt"), corpus.join("zz.txt")).unwrap();
        let (files, said) = found(&corpus);
        assert_eq!(files, ["e1.txt", "letters/b.txt", "z.txt"]);
        assert_eq!(said.matches("skipped ").count(), 1, "{said}");
        assert!(!said.contains("/letters,") && !said.contains("/z.txt"), "{said}");
    }

    #[test]
    fn what_this_program_wrote_is_no_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for file in [
            "notes/config.toml",
            "notes/tokenizer.json",
            "runs/x/config.toml",
            "runs/x/.lock",
            "model/config.json",
            "model/tokenizer.json",
            "lessons/figures/day-01/x.txt",
            "lessons/day-01/config.toml",
            "lessons/day-01/metrics.jsonl",
        ] {
            fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            fs::write(path(file), "x").unwrap();
        }
        let (files, said) = found(folder.path());
        assert_eq!(files, ["notes/config.toml", "notes/tokenizer.json"]);
        assert!(said.contains("runs/x, which mlx-gpt wrote"), "{said}");
        let error = TextFinder::find(&path("runs/x")).err().unwrap().to_string();
        assert!(error.contains("is a run, not a text"), "{error}");
    }
}

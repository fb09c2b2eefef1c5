//! The tokenizer and the text that the tokenizer commands work on.

use std::io::stdin;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::config::DEFAULT_CORPUS;
use crate::data::corpus::{Corpus, Split};
use crate::disk::files;
use crate::tokenizer::{CharTokenizer, Tokenizer};

/// Maximum size of a text; for larger ones there is `data prepare`, which reads in blocks.
pub const MAX_TEXT_BYTES: u64 = 1 << 30;

/// Opens the tokenizer of that name or path; the vocabulary of `char` are the corpus's characters.
///
/// # Errors
/// A tokenizer or a corpus that cannot be read.
pub fn open(name: &str, corpus: Option<&str>) -> Result<Tokenizer> {
    Tokenizer::open(name, || {
        let corpus = Corpus::open(corpus.unwrap_or(DEFAULT_CORPUS))?;
        Ok(CharTokenizer::from_text(corpus.text(Split::All)))
    })
}

/// The text to work on.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct TextInput {
    /// The text
    #[arg(allow_hyphen_values = true)]
    text: Option<String>,
    /// A file with the text, used unchanged; - for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl TextInput {
    /// The text.
    ///
    /// # Errors
    /// As [`read_text`].
    pub fn read(&self) -> Result<String> {
        match (&self.text, &self.file) {
            (Some(text), _) => Ok(text.clone()),
            (None, Some(file)) => read_text(file, MAX_TEXT_BYTES),
            (None, None) => Ok(String::new()),
        }
    }
}

/// A file's text of up to `max_bytes`; `-` is standard input.
///
/// # Errors
/// It cannot be read, is larger, or is not UTF-8.
pub fn read_text(file: &Path, max_bytes: u64) -> Result<String> {
    let shown = file.display();
    let bytes = if file == Path::new("-") {
        files::read_up_to(stdin().lock(), max_bytes).context("standard input cannot be read")?
    } else {
        files::open(file)
            .and_then(|opened| files::read_up_to(opened, max_bytes))
            .with_context(|| format!("file {shown} cannot be read"))?
    };
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("file {shown}: not UTF-8 text, from byte {at} on; convert it (iconv -t utf-8)")
    })
}

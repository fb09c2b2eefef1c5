//! Preference pairs: of two answers to a prompt, the one that is chosen and the one that is rejected.
//!
//! | file | contents |
//! |---|---|
//! | `records.rs` | JSON lines to records of texts |
//! | `pairs.rs` | records to rows of tokens, and batches of them |
//!
//! ```
//! use mlx_gpt::data::preferences::PreferenceData;
//! use mlx_gpt::tokenizer::{CharTokenizer, Tokenizer};
//!
//! let lines = r#"{"prompt": "2+3=", "chosen": "5", "rejected": "6"}"#;
//! let data = PreferenceData::parse(lines, "pairs.jsonl")?;
//! let tokenizer: Tokenizer = CharTokenizer::from_text("+=23456").into();
//! let pairs = data.pairs(&data.records, &tokenizer, None, 8)?;
//! let batch = pairs.batch(&[0], 8); // two rows: the chosen answer, then the rejected one
//! assert_eq!((batch.rows, batch.target_count()), (2, 2));
//! # Ok::<(), anyhow::Error>(())
//! ```

mod pairs;
mod records;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::corpus::Split;
use crate::disk::files;
use crate::disk::hash::sha256;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::ChatTemplate;
pub use pairs::{Pair, Pairs};
pub use records::{Prompt, Record};

/// The pairs of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct PreferenceData {
    /// The file's path, for messages.
    pub name: String,
    /// In the order of the lines.
    pub records: Vec<Record>,
    /// SHA-256 of the file's text.
    pub sha256: String,
}

impl PreferenceData {
    /// Reads a file of JSON lines, as trl and Hugging Face's datasets have them.
    ///
    /// # Errors
    /// A file that cannot be read or is not UTF-8; the number of a line that is no pair of texts; a file without pairs.
    pub fn read(file: &Path) -> Result<Self> {
        let name = file.display().to_string();
        let text = files::read(file)
            .and_then(|bytes| Ok(String::from_utf8(bytes)?))
            .with_context(|| {
                format!("{name} cannot be read; give a file of preference pairs: one JSON object per line")
            })?;
        Self::parse(&text, &name)
    }

    /// The pairs of a file's text; errors call it `name`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            records: records::parse(text, name)?,
            sha256: sha256(text),
        })
    }

    /// The records of a split: one prompt in ten is held out, by its hash, so that no prompt is in both.
    ///
    /// # Errors
    /// There are none.
    pub fn split(&self, split: Split) -> Result<Vec<Record>> {
        let of = |record: &&Record| match split {
            Split::Train => !record.is_held_out(),
            Split::Val => record.is_held_out(),
            Split::All => true,
        };
        let records: Vec<Record> = self.records.iter().filter(of).cloned().collect();
        ensure!(
            !records.is_empty(),
            "{} has too few different prompts: one in ten is held out, and of {} pair(s) none is {}; add pairs with other prompts",
            self.name,
            self.records.len(),
            match split {
                Split::Val => "held out",
                _ => "left to train on",
            }
        );
        Ok(records)
    }

    /// Records as tokens, in rows of at most `context` inputs.
    ///
    /// # Errors
    /// The line of a pair that the tokenizer cannot write, or whose answers have no tokens or are longer than a row; messages
    /// without a `template`.
    pub fn pairs(
        &self,
        records: &[Record],
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
        context: usize,
    ) -> Result<Pairs> {
        let encode = |record: &Record| {
            Pair::encode(record, tokenizer, template, context)
                .with_context(|| format!("{}, line {}", self.name, record.line))
        };
        Ok(Pairs {
            pairs: records.iter().map(encode).collect::<Result<_>>()?,
        })
    }
}

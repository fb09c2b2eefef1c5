//! Encodes text and writes it as shards, on all cores and in bounded memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::Event;
use crate::config::SpecialTokens;
use crate::data::manifest::ShardRecord;
use crate::data::text_files::{FilePosition, TextBlock, TextFiles};
use crate::data::tokens::TokenDtype;
use crate::disk::hash;
use crate::tokenizer::Tokenizer;

/// Encodes text and writes it as shards.
pub struct ShardWriter<'a> {
    /// The text.
    pub files: &'a TextFiles,
    /// What encodes it.
    pub tokenizer: &'a Tokenizer,
    /// Whether special tokens in the text are special.
    pub special: SpecialTokens,
    /// Of an id on disk.
    pub dtype: TokenDtype,
    /// Bytes of text that end a shard.
    pub shard_text: u64,
}

impl ShardWriter<'_> {
    /// Writes the tokens of the text in `range`, up to the size of a shard, to `path`; the shard will be called `name`.
    /// Returns where the next one begins. Special tokens that are encoded as text are counted in `as_text`.
    ///
    /// # Errors
    /// Text that cannot be read or encoded; a disk that cannot be written; an error of `on_event`.
    pub fn write(
        &self,
        range: Range<FilePosition>,
        path: &Path,
        name: String,
        as_text: &mut BTreeMap<String, usize>,
        on_event: &mut impl FnMut(Event) -> Result<()>,
    ) -> Result<(ShardRecord, FilePosition)> {
        let (dtype, limit) = (self.dtype, range.end);
        let mut out = BufWriter::new(File::create(path)?);
        let mut hash = Sha256::new();
        let mut record = ShardRecord {
            file: name,
            tokens: 0,
            text_bytes: 0,
            sha256: String::new(),
        };
        let mut next = range.start;
        let mut blocks = self.files.blocks(next, Some(limit));
        let at_once = 2 * rayon::current_num_threads();
        while next < limit && record.text_bytes < self.shard_text {
            // Two blocks per thread are encoded in parallel and written in order. Where the shard ends does not depend on the
            // number of threads.
            let mut batch: Vec<TextBlock> = Vec::with_capacity(at_once);
            let mut left = self.shard_text - record.text_bytes;
            while batch.len() < at_once && left > 0 {
                let Some(block) = blocks.next() else { break };
                let block = block?;
                left = left.saturating_sub(block.text.len() as u64);
                batch.push(block);
            }
            let encoded = batch
                .par_iter()
                .map(|block| {
                    let ids = self.tokenizer.encode_with(&block.text, &self.special.into());
                    let mut ids = ids.with_context(|| self.files.name(block.start))?;
                    ids.extend(self.tokenizer.eos_token().filter(|_| block.ends_file));
                    let mut bytes = Vec::with_capacity(ids.len() * dtype.bytes());
                    dtype.write(&ids, &mut bytes);
                    let counts = match self.special {
                        SpecialTokens::Text => self.tokenizer.special_tokens_in(&block.text),
                        SpecialTokens::Allow | SpecialTokens::Raise => BTreeMap::new(),
                    };
                    Ok((bytes, counts))
                })
                .collect::<Result<Vec<_>>>()?;
            for (block, (bytes, counts)) in batch.iter().zip(encoded) {
                for (token, count) in counts {
                    *as_text.entry(token).or_default() += count;
                }
                out.write_all(&bytes)?;
                hash.update(&bytes);
                record.tokens += (bytes.len() / dtype.bytes()) as u64;
                record.text_bytes += block.text.len() as u64;
                next = block.end;
                on_event(Event::Encoded(block.bytes))?;
            }
        }
        out.flush()?;
        record.sha256 = hash::finish(hash);
        Ok((record, next))
    }
}

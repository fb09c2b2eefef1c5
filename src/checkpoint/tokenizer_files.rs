//! A checkpoint's tokenizer: `tokenizer.json`, or the two files that came before it.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::TOKENIZER;
use crate::disk::files;
use crate::tokenizer::{END_OF_TEXT, Tokenizer};

const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";

/// Reads the tokenizer of a folder.
///
/// # Errors
/// There is none, or it is broken.
pub fn read(folder: &Path) -> Result<Tokenizer> {
    if !folder.join(TOKENIZER).exists() && has_gpt2_files(folder) {
        return read_gpt2_files(folder);
    }
    Tokenizer::load(&folder.join(TOKENIZER))
}

/// Whether a folder has files of a tokenizer.
pub fn are_in(folder: &Path) -> bool {
    folder.join(TOKENIZER).exists() || has_gpt2_files(folder)
}

fn has_gpt2_files(folder: &Path) -> bool {
    [VOCAB, MERGES].iter().all(|name| folder.join(name).exists())
}

/// GPT-2's own pair of files: ids by token, and merges in the order in which they were learned.
fn read_gpt2_files(folder: &Path) -> Result<Tokenizer> {
    let read = |name: &str| {
        let path = folder.join(name);
        files::read(&path)
            .and_then(|bytes| Ok(String::from_utf8(bytes)?))
            .with_context(|| format!("tokenizer {} cannot be read", path.display()))
    };
    let vocab: Value = serde_json::from_str(&read(VOCAB)?)
        .with_context(|| format!("tokenizer {} is not valid JSON", folder.join(VOCAB).display()))?;
    let merges = read(MERGES)?;
    let merges: Vec<&str> = merges
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.is_empty())
        .collect();
    let end_of_text = vocab.get(END_OF_TEXT).map(|id| {
        json!({
            "id": id, "content": END_OF_TEXT, "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false
        })
    });
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    Tokenizer::from_json(
        json!({
            "version": "1.0",
            "added_tokens": end_of_text.into_iter().collect::<Vec<_>>(),
            "normalizer": null,
            "pre_tokenizer": byte_level,
            "post_processor": null,
            "decoder": byte_level,
            "model": { "type": "BPE", "vocab": vocab, "merges": merges }
        }),
        &folder.join(VOCAB),
    )
}

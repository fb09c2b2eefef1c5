//! Imports a GPT-2 in Hugging Face's format as a checkpoint.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::{Checkpoint, MODEL_CONFIG, bos_eos, state, unsupported};
use crate::config::{ModelConfig, Precision};
use crate::disk::durable;
use crate::disk::files;
use crate::generate::unused_ids;
use crate::tokenizer::Tokenizer;

/// The vocabulary size of OpenAI's GPT-2, and nanoGPT's padded size.
const GPT2_VOCABS: [usize; 2] = [50257, 50304];

/// Reads the model in `source` and writes it to `out` as a checkpoint, with hashes of its files. `tokenizer` replaces the
/// folder's own; a model with GPT-2's vocabulary size, padded or not, and no tokenizer gets GPT-2's. `origin` is
/// where the model came from, for `state.json`. `proceed` is polled between stages; its error aborts the import.
///
/// # Errors
/// As [`Checkpoint::load`]; weights that are not finite; a folder without tokenizer; an `out` that exists already; an error
/// of `proceed`. Nothing is left behind.
pub fn import(
    source: &Path,
    out: &Path,
    tokenizer: Option<Tokenizer>,
    origin: &str,
    proceed: impl Fn() -> Result<()>,
) -> Result<Checkpoint> {
    durable::ensure_free(out)?;
    ensure!(
        source.is_dir() || unsupported::hint(source).is_some(), // loading will report it
        "{} is not a folder; give one with config.json, model.safetensors and tokenizer.json",
        source.display()
    );
    let tokenizer = |model: &ModelConfig| match tokenizer {
        Some(tokenizer) => Ok(tokenizer),
        None if Tokenizer::is_in(source) => Tokenizer::load(source),
        None if GPT2_VOCABS.contains(&model.vocab_size) => {
            log::info!("the folder has no tokenizer; its vocabulary has GPT-2's size, so GPT-2's tokenizer is used");
            Tokenizer::gpt2()
        }
        None => bail!(
            "{} has no tokenizer.json; give a tokenizer with --tokenizer",
            source.display()
        ),
    };
    let mut checkpoint = Checkpoint::load_with(source, tokenizer)?.merged()?;
    checkpoint
        .check_finite()
        .with_context(|| format!("the model in {}", source.display()))?;
    log_notes(source, &checkpoint)?;
    proceed()?;
    checkpoint.folder = out.to_owned();
    let _made = durable::make_parents(out)?;
    durable::write_folder(out, |temp| {
        checkpoint.write_model(temp, Precision::Float32)?;
        proceed()?;
        state::write_imported(temp, origin)?;
        proceed()
    })
    .map_err(durable::not_written(out))?;
    Ok(checkpoint)
}

/// Logs notes on a padded vocabulary, and on eos ids outside it.
fn log_notes(source: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let vocab_size = checkpoint.model.vocab_size;
    let unused = unused_ids(&checkpoint.tokenizer, vocab_size).len();
    if unused > 0 {
        log::info!(
            "{unused} of the {vocab_size} ids have no token: the vocabulary is padded, and they are never sampled"
        );
    }
    let config = source.join(MODEL_CONFIG);
    if !config.exists() {
        return Ok(()); // adapters have none of their own
    }
    let named = bos_eos::read(source, &files::read_json(&config, "valid JSON")?)?;
    let (_, others) = bos_eos::within(named, vocab_size);
    if !others.is_empty() {
        let others: Vec<String> = others.iter().map(u32::to_string).collect();
        let ends: Vec<String> = checkpoint.eos_tokens().iter().map(u32::to_string).collect();
        log::info!(
            "the configuration names token {}, which is outside the vocabulary of {vocab_size}; eos is {}",
            others.join(", "),
            match &ends[..] {
                [] => "no token".into(),
                ends => format!("token {}", ends.join(", ")),
            }
        );
    }
    Ok(())
}

/// The name of `source` in the record of an import: its absolute path.
pub fn origin(source: &Path) -> String {
    let absolute: PathBuf = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    absolute.display().to_string()
}

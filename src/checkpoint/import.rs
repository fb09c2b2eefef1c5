//! A GPT-2 in Hugging Face's layout, made elsewhere, to a checkpoint here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::{CONFIG, Checkpoint, ending, progress, tokenizer_files};
use crate::config::{ModelConfig, Precision};
use crate::disk::durable;
use crate::disk::files;
use crate::terminal::console::say;
use crate::tokenizer::Tokenizer;

/// The vocabulary of OpenAI's GPT-2.
const GPT2_VOCAB: usize = 50257;

/// Reads the model in `source` and writes it to `out` as a checkpoint, with hashes of its files. `tokenizer` takes the
/// place of the folder's own; a model with GPT-2's vocabulary and no tokenizer gets GPT-2's.
///
/// # Errors
/// What [`Checkpoint::load`] refuses, weights that are no numbers, a folder without tokenizer, an `out` that is there
/// already, or an error of `proceed`, which is asked between the parts of the work. Nothing is left behind then.
pub fn import(
    source: &Path,
    out: &Path,
    tokenizer: Option<Tokenizer>,
    origin: &str,
    proceed: impl Fn() -> Result<()>,
) -> Result<Checkpoint> {
    durable::ensure_free(out)?;
    ensure!(
        source.is_dir(),
        "{} is not a folder; give one with config.json, model.safetensors and tokenizer.json",
        source.display()
    );
    let tokenizer = |model: &ModelConfig| match tokenizer {
        Some(tokenizer) => Ok(tokenizer),
        None if tokenizer_files::are_in(source) => tokenizer_files::read(source),
        None if model.vocab_size == GPT2_VOCAB => {
            say("note     the folder has no tokenizer; its vocabulary is of GPT-2's size, so GPT-2's is taken");
            Tokenizer::gpt2()
        }
        None => bail!(
            "{} has no tokenizer.json, and without a tokenizer a model is of no use; give one with --tokenizer",
            source.display()
        ),
    };
    let mut checkpoint = Checkpoint::load_with(source, tokenizer)?.merged()?;
    checkpoint
        .check_finite()
        .with_context(|| format!("the model in {}", source.display()))?;
    remark_on_ending(source, &checkpoint.tokenizer)?;
    proceed()?;
    checkpoint.folder = out.to_owned();
    let _made = durable::make_parents(out)?;
    durable::write_folder(out, |making| {
        checkpoint.write_model(making, Precision::Float32)?;
        proceed()?;
        progress::write_imported(making, origin)?;
        proceed()
    })
    .map_err(durable::not_written(out))?;
    Ok(checkpoint)
}

/// Says where the model's configuration has texts end otherwise than they do here.
fn remark_on_ending(source: &Path, tokenizer: &Tokenizer) -> Result<()> {
    let config = source.join(CONFIG);
    if !config.exists() {
        return Ok(()); // adapters', which have none of their own
    }
    let here = tokenizer.end_of_text();
    let others: Vec<String> = ending::ids(&serde_json::from_slice(&files::read(&config)?)?)?
        .into_iter()
        .filter(|&id| Some(id) != here)
        .map(|id| id.to_string())
        .collect();
    if !others.is_empty() {
        say(format_args!(
            "note     config.json ends texts with token {}; here {}",
            others.join(", "),
            match here {
                Some(id) => format!("the tokenizer's own does, {id}"),
                None => "no token does: the tokenizer has none for it, such as <|endoftext|>".into(),
            }
        ));
    }
    Ok(())
}

/// What `source` is called in the record of an import.
pub fn origin(source: &Path) -> String {
    let absolute: PathBuf = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    absolute.display().to_string()
}

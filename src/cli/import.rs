//! `mlx-gpt import`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use indicatif::HumanBytes;

use super::signals::Signals;
use crate::checkpoint::Checkpoint;
#[cfg(feature = "hub")]
use crate::checkpoint::hub;
use crate::checkpoint::import::{import, origin};
use crate::checkpoint::runs;
use crate::disk::durable;
use crate::model::init::parameter_count;
use crate::terminal::amount::amount;
use crate::terminal::console::{program, quoted, say, say_unbroken};
#[cfg(feature = "hub")]
use crate::terminal::progress::{Progress, Unit};
use crate::tokenizer::Tokenizer;

/// Import a GPT-2: OpenAI's, or any in Hugging Face's format
///
/// Reads config.json, model.safetensors (one file or shards, float32, float16 or bfloat16) and the tokenizer, checks every
/// name and shape, and writes a checkpoint that generate, eval, export and train --init-from use. OpenAI's models are
/// downloaded from Hugging Face's hub into the cache that transformers uses too ($HF_HOME); an interrupted download is
/// resumed.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt import gpt2 --out models/gpt2                OpenAI's 124 million parameters, 548 MB to download
    mlx-gpt import distilbert/distilgpt2 --out models/d  another GPT-2 from the hub
    mlx-gpt import downloads/gpt2 --out models/gpt2      a folder
    mlx-gpt generate --checkpoint models/gpt2 --prompt 'Hello, I am'
    mlx-gpt train --init-from models/gpt2 --corpus notes.txt")]
pub struct Options {
    /// A folder; a run, for its newest checkpoint; gpt2, gpt2-medium, gpt2-large or gpt2-xl; or the hub's OWNER/MODEL
    #[arg(value_name = "DIR_OR_NAME")]
    source: String,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Use this tokenizer instead of the folder's: gpt2, cl100k, or a path: a tokenizer.json, .model or .tiktoken, or a
    /// folder that holds one
    #[arg(long, value_name = "NAME_OR_PATH")]
    tokenizer: Option<String>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    durable::ensure_free(&options.out)?;
    let tokenizer = match &options.tokenizer {
        Some(name) => Some(Tokenizer::open(name, || {
            bail!("`char` cannot be used here; give the path of a tokenizer.json")
        })?),
        None => None,
    };
    let named = Path::new(&options.source);
    let signals = Signals::register()?;
    let read = |folder: &Path, origin: &str| {
        signals.cancel_on_signal();
        say(format_args!("reading  {}", folder.display()));
        import(folder, &options.out, tokenizer.clone(), origin, || signals.check())
    };
    let imported = match published(&options.source)? {
        Some((folder, name)) => read(&folder, &name),
        None => runs::read_checkpoint(Some(named), |folder| read(folder, &origin(folder))),
    };
    signals.exit_code(imported.map(|checkpoint| {
        describe(&checkpoint, &options.out);
        ExitCode::SUCCESS
    }))
}

/// The local folder and the name of a model on Hugging Face's hub, if `name` can be one; downloads it if necessary.
#[cfg(feature = "hub")]
fn published(name: &str) -> Result<Option<(PathBuf, String)>> {
    let Some(repository) = hub::repository(name).filter(|_| !Path::new(name).exists()) else {
        return Ok(None);
    };
    say(format_args!("asking   Hugging Face's hub for {repository}"));
    let folder = hub::download(repository, Progress::new("", 0, Unit::Bytes))?;
    Ok(Some((folder, repository.to_owned())))
}

/// Without the feature `hub`, only folders can be imported.
#[cfg(not(feature = "hub"))]
fn published(_: &str) -> Result<Option<(PathBuf, String)>> {
    Ok(None)
}

fn describe(checkpoint: &Checkpoint, out: &Path) {
    let model = &checkpoint.model;
    say(format_args!(
        "model    {}, vocabulary {}: {} parameters, {}",
        model.summary(),
        model.vocab_size,
        amount(parameter_count(model)),
        HumanBytes(4 * checkpoint.parameters.count() as u64)
    ));
    say(format_args!("saved    {}", out.display()));
    let out = quoted(out);
    say_unbroken(format_args!("next     {} generate --checkpoint {out}", program()));
    say_unbroken(format_args!(
        "         {} train --init-from {out} --corpus YOUR_TEXT",
        program()
    ));
}

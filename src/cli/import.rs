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

/// Bring a GPT-2 in: OpenAI's, or any in Hugging Face's layout
///
/// Reads config.json, model.safetensors (one file or shards, float32, float16 or bfloat16) and the tokenizer, checks every
/// name and shape, and writes a checkpoint that generate, eval, export and train --init-from use. OpenAI's models are
/// downloaded from Hugging Face's hub into the cache that transformers uses too ($HF_HOME); an interrupted download goes
/// on where it stopped.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt import gpt2 --out models/gpt2                OpenAI's 124 million parameters, 548 MB to download
    mlx-gpt import distilbert/distilgpt2 --out models/d  another GPT-2 from the hub
    mlx-gpt import downloads/gpt2 --out models/gpt2      a folder
    mlx-gpt generate --checkpoint models/gpt2 --prompt 'Hello, I am'
    mlx-gpt train --init-from models/gpt2 --corpus notes.txt")]
pub struct Options {
    /// A folder, or a run, whose newest checkpoint is taken; or gpt2, gpt2-medium, gpt2-large, gpt2-xl; or the hub's OWNER/MODEL
    #[arg(value_name = "DIR_OR_NAME")]
    source: String,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Take this tokenizer instead of the folder's: gpt2, cl100k, or a path: a tokenizer.json, .model or .tiktoken, or a
    /// folder that holds one
    #[arg(long, value_name = "NAME_OR_PATH")]
    tokenizer: Option<String>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    durable::ensure_free(&options.out)?;
    let tokenizer = match &options.tokenizer {
        Some(name) => Some(Tokenizer::open(name, || {
            bail!("characters of which text? give the path of a tokenizer.json")
        })?),
        None => None,
    };
    let named = Path::new(&options.source);
    let signals = Signals::register()?;
    let read = |folder: &Path, origin: &str| {
        signals.defer();
        say(format_args!("reading  {}", folder.display()));
        import(folder, &options.out, tokenizer.clone(), origin, || signals.check())
    };
    let imported = match published(&options.source)? {
        Some((folder, name)) => read(&folder, &name),
        None => runs::read(Some(named), |folder| read(folder, &origin(folder))),
    };
    signals.outcome(imported.map(|checkpoint| {
        describe(&checkpoint, &options.out);
        ExitCode::SUCCESS
    }))
}

/// The folder and the name of a model on Hugging Face's hub, if that is what `name` can be, fetched where it is not here.
#[cfg(feature = "hub")]
fn published(name: &str) -> Result<Option<(PathBuf, String)>> {
    let Some(repository) = hub::repository(name).filter(|_| !Path::new(name).exists()) else {
        return Ok(None);
    };
    let folder = hub::download(repository, Progress::new("", 0, Unit::Bytes))?;
    Ok(Some((folder, repository.to_owned())))
}

/// This program was built without the hub.
#[cfg(not(feature = "hub"))]
fn published(_: &str) -> Result<Option<(PathBuf, String)>> {
    Ok(None)
}

fn describe(checkpoint: &Checkpoint, out: &Path) {
    let model = &checkpoint.model;
    say(format_args!(
        "model    {}, vocabulary {}: {} parameters, {}",
        model.shape(),
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

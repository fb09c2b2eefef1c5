//! `mlx-gpt export`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::run::find_checkpoint;
use crate::console::{self, say};
use crate::export::Dtype;
use crate::export::gguf::Gguf;
use crate::train::signals::Signals;

/// Write a checkpoint as a file of another program
///
/// gguf is the format of llama.cpp and of what is built on it: one file with the weights, the model's shape and the
/// tokenizer. It takes byte-level BPE tokenizers, such as gpt2 and those of `tokenizer train`. Vectors and position
/// embeddings stay float32.
#[derive(Args)]
#[command(after_long_help = "\
Examples:

    mlx-gpt export --format gguf --out my-gpt.gguf                 the newest run
    mlx-gpt export --checkpoint runs/x --format gguf --dtype q8_0 --out x-q8_0.gguf
    llama-completion -m x-q8_0.gguf -p 'Once upon a time'          runs it, in llama.cpp")]
pub struct Options {
    /// A run, or one of its step folders [default: the newest run below runs/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write; it must not exist yet
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// How weights are written [default: float16]
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// One file for llama.cpp
    Gguf,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        !options.out.exists(),
        "{} exists already; choose another --out",
        options.out.display()
    );
    let folder = find_checkpoint(options.checkpoint.as_deref())?;
    let checkpoint = Checkpoint::load(&folder)?;
    say(format_args!("{}", folder.display()));
    match options.format {
        Format::Gguf => gguf(&checkpoint, options.dtype.unwrap_or(Dtype::Float16), &options.out),
    }
}

fn gguf(checkpoint: &Checkpoint, dtype: Dtype, out: &Path) -> Result<ExitCode> {
    let file = Gguf::new(checkpoint, dtype)?;
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder).with_context(|| format!("folder {} cannot be made", folder.display()))?;
    }
    let bar = ProgressBar::new(file.size()).with_style(ProgressStyle::with_template(
        "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
    )?);
    let signals = Signals::register()?;
    let result = file.write(out, |bytes| {
        bar.inc(bytes);
        ensure!(signals.received().is_none(), "stopped by a signal");
        Ok(())
    });
    bar.finish_and_clear();
    match (result, signals.received()) {
        (Err(_), Some(signal)) => return Ok(ExitCode::from(128 + signal as u8)),
        (result, _) => result?,
    }
    console::print(format_args!(
        "{}: {}, GGUF for llama.cpp\nrun it with: llama-completion -m {0} -p 'Once upon a time'\n",
        out.display(),
        HumanBytes(file.size())
    ))?;
    Ok(ExitCode::SUCCESS)
}

//! `mlx-gpt export`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use indicatif::HumanBytes;

use super::signals::Signals;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::formats::gguf::{EOG_KEYS, Gguf};
use crate::checkpoint::formats::{Dtype, folder};
use crate::checkpoint::runs;
use crate::config::{Architecture, Precision, Quantization};
use crate::disk::durable;
use crate::terminal::console::{self, program, quoted, say};
use crate::terminal::progress::{Progress, Unit};

/// Export a checkpoint to another format, or quantize it
///
/// hf is a folder for transformers, without the training state. gguf is one file for llama.cpp and programs built on it;
/// it supports byte-level BPE tokenizers, such as gpt2 and those of `tokenizer train`. mlx is a folder for mlx-lm with
/// 4-bit or 8-bit weights, which `generate` and `eval` read too. Low-rank adapters are merged into the base weights.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt export --format hf --out my-gpt                        the newest run
    mlx-gpt export --format hf --dtype float16 --out my-gpt        half the size
    mlx-gpt export --format mlx --bits 4 --out my-gpt-4bit
    mlx-gpt generate --checkpoint my-gpt-4bit
    mlx-gpt export --checkpoint runs/x --format gguf --dtype q8_0 --out x-q8_0.gguf
    llama-completion -m x-q8_0.gguf -p 'Once upon a time'          runs it, in llama.cpp")]
pub struct Options {
    /// A run, or one of its step folders [default: the newest run below runs/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum)]
    format: ExportFormat,
    /// The file or folder to write; it must not exist yet
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Number format of the weights, for hf and gguf [default: float32 for hf, float16 for gguf]
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Bits per weight, for mlx: 4 or 8 [default: 4]
    #[arg(long, value_name = "N")]
    bits: Option<usize>,
    /// Weights per quantization group, for mlx: 32, 64 or 128; smaller is more accurate [default: 64, or 32 where 64 does not
    /// divide the embedding dimension]
    #[arg(long, value_name = "N")]
    group_size: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum ExportFormat {
    /// A folder for transformers
    Hf,
    /// One file for llama.cpp
    Gguf,
    /// A folder for mlx-lm, quantized
    Mlx,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        options.format == ExportFormat::Mlx || (options.bits, options.group_size) == (None, None),
        "--bits and --group-size only apply to --format mlx; use --dtype for hf and gguf"
    );
    durable::ensure_free(&options.out)?;
    let signals = Signals::register()?;
    let checkpoint = runs::read_checkpoint(options.checkpoint.as_deref(), Checkpoint::load)?.merged()?;
    let source = checkpoint.folder.clone();
    ensure!(
        checkpoint.model.quantization.is_none(),
        "the weights in {} are already quantized; export the checkpoint that they were quantized from",
        source.display()
    );
    ensure!(
        checkpoint.model.architecture == Architecture::Gpt2,
        "the model in {} has the architecture {}, which other programs don't support; only gpt2 can be exported",
        source.display(),
        checkpoint.model.architecture.name()
    );
    signals.cancel_on_signal();
    say(format_args!("{}", source.display()));
    let written = match options.format {
        ExportFormat::Hf => hugging_face(&checkpoint, options, &signals),
        ExportFormat::Gguf => gguf(&checkpoint, options, &signals),
        ExportFormat::Mlx => mlx(checkpoint, options, &signals),
    };
    signals.exit_code(written.map(|()| ExitCode::SUCCESS))
}

fn hugging_face(checkpoint: &Checkpoint, options: &Options, signals: &Signals) -> Result<()> {
    let out = &options.out;
    let precision = match options.dtype {
        None | Some(Dtype::Float32) => Precision::Float32,
        Some(Dtype::Float16) => Precision::Float16,
        Some(Dtype::Bfloat16) => Precision::Bfloat16,
        Some(Dtype::Q8_0) => {
            bail!("--dtype q8_0 only applies to --format gguf; use float32, float16 or bfloat16 for hf")
        }
    };
    folder::hugging_face(checkpoint, precision, out, || signals.check())?;
    console::print(format_args!(
        "{}: {}, {precision}, for transformers\nopen it with: GPT2LMHeadModel.from_pretrained({:?})\n",
        out.display(),
        HumanBytes(durable::size_of_folder(out)?),
        out.display().to_string()
    ))
}

fn mlx(checkpoint: Checkpoint, options: &Options, signals: &Signals) -> Result<()> {
    ensure!(
        options.dtype.is_none(),
        "--dtype only applies to hf and gguf; use --bits and --group-size for --format mlx"
    );
    let odd = !checkpoint.model.embd.is_multiple_of(64);
    let quantization = Quantization {
        bits: options.bits.unwrap_or(4),
        group_size: options.group_size.unwrap_or(if odd { 32 } else { 64 }),
    };
    folder::mlx_lm(checkpoint, quantization, &options.out, || signals.check())?;
    let out = options.out.display();
    console::print(format_args!(
        "{out}: {}, {} bits a weight in groups of {}, for mlx-lm\nrun it with: {} generate --checkpoint {}\n",
        HumanBytes(durable::size_of_folder(&options.out)?),
        quantization.bits,
        quantization.group_size,
        program(),
        quoted(&options.out)
    ))
}

fn gguf(checkpoint: &Checkpoint, options: &Options, signals: &Signals) -> Result<()> {
    let out = &options.out;
    let file = Gguf::new(checkpoint, options.dtype.unwrap_or(Dtype::Float16))?;
    if let Some(others) = checkpoint.eos_tokens().get(EOG_KEYS.len()..)
        && !others.is_empty()
    {
        say(format_args!(
            "note     GGUF stores at most {} end-of-text tokens; these are left out: {others:?}",
            EOG_KEYS.len()
        ));
    }
    let _made = durable::make_parents(out)?;
    let bar = Progress::new("writing", file.size(), Unit::Bytes);
    let written = file.write(out, |bytes| {
        bar.inc(bytes);
        signals.check()
    });
    drop(bar);
    written?;
    console::print(format_args!(
        "{}: {}, GGUF for llama.cpp\nrun it with: llama-completion -m {0} -p 'Once upon a time'\n",
        out.display(),
        HumanBytes(file.size())
    ))
}

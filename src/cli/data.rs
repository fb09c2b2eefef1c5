//! `mlx-gpt data`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::signals::Signals;
use crate::data::corpus::Split;
use crate::data::dataset::Dataset;
use crate::data::manifest::Manifest;
use crate::data::prepare::{Event, prepare};
use crate::terminal::console::{self, program, quoted, say};
use crate::tokenizer::Tokenizer;
use crate::train::Stop;

/// Turn large texts into token shards, and say what a folder of them holds
///
/// `train --corpus` takes such a folder; its shards are mapped into memory, so that text of any size trains in little
/// of it.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Prepare(PrepareOptions),
    Info(InfoOptions),
}

/// Tokenize a text file, or a folder of them, into shards
///
/// Works on all cores, in little memory. Interrupted, the same command goes on with the same bytes. Each file is a
/// document: where the tokenizer has an end-of-text token, it follows each.
#[derive(Args)]
#[command(after_long_help = "\
Example:

    mlx-gpt data prepare --corpus books/ --tokenizer gpt2 --out data/books
    mlx-gpt train --corpus data/books --preset gpt2")]
struct PrepareOptions {
    /// A UTF-8 text file, or a folder of them
    #[arg(long, value_name = "PATH")]
    corpus: PathBuf,
    /// gpt2, cl100k, or the path of a tokenizer.json
    #[arg(long, value_name = "NAME_OR_PATH", default_value = "gpt2")]
    tokenizer: String,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Text that fills a shard, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    shard_size: u64,
}

/// Say what a folder of tokens holds
#[derive(Args)]
#[command(after_long_help = "\
Example:

    mlx-gpt data info data/books")]
struct InfoOptions {
    /// A folder made by `data prepare`, or one with nanoGPT's train.bin and val.bin
    folder: PathBuf,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.command {
        Command::Prepare(options) => run_prepare(options),
        Command::Info(options) => info(&options.folder).map(|()| ExitCode::SUCCESS),
    }
}

fn run_prepare(options: &PrepareOptions) -> Result<ExitCode> {
    let signals = Signals::register()?;
    let tokenizer = Tokenizer::open(&options.tokenizer, || {
        bail!(
            "characters of which text? train a tokenizer first with: {} tokenizer train --kind char --corpus {} --out FILE.json, and give its path",
            program(),
            quoted(&options.corpus)
        )
    })?;
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
        "{msg:9} {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
    )?);
    let started = Instant::now();
    let mut encoded = 0;
    let mut encoding = false;
    signals.at_stake(Some("the shard that is being written".into()));
    let prepared = prepare(
        &options.corpus,
        &options.out,
        &tokenizer,
        options.shard_size << 20,
        |event| {
            match event {
                Event::Found(bytes) => {
                    bar.set_message("reading");
                    bar.set_length(bytes);
                }
                Event::Surveyed(bytes) => bar.inc(bytes),
                Event::Encoded(bytes) => {
                    if !encoding {
                        encoding = true;
                        bar.reset();
                        bar.set_message("encoding");
                    } else {
                        encoded += bytes;
                    }
                    bar.inc(bytes);
                }
                Event::Remark(remark) => bar.suspend(|| say(format_args!("note      {remark}"))),
            }
            signals.check()
        },
    );
    bar.finish_and_clear();
    let manifest = match prepared {
        Err(_) if signals.requested() => {
            say("stopped; the same command goes on after the shards that are complete");
            return Ok(signals.code());
        }
        prepared => prepared?,
    };
    signals.at_stake(None);
    if encoded > 0 {
        let seconds = started.elapsed().as_secs_f64();
        say(format_args!(
            "{} of text in {seconds:.1} s, {:.1} MB/s",
            HumanBytes(encoded),
            encoded as f64 / 1e6 / seconds
        ));
    }
    describe(&manifest, &options.out)?;
    Ok(ExitCode::SUCCESS)
}

fn info(folder: &Path) -> Result<()> {
    let name = folder
        .to_str()
        .with_context(|| format!("{} has a name that is not UTF-8", folder.display()))?;
    match Dataset::open(name)? {
        Dataset::Prepared { manifest, .. } => describe(&manifest, folder),
        dataset @ Dataset::NanoGpt { .. } => {
            let tokenizer = Tokenizer::gpt2()?;
            for (what, split) in [("training", Split::Train), ("validation", Split::Val)] {
                let tokens = dataset.part(&tokenizer, split)?.tokens.len();
                console::print(format_args!("{what:<12} {tokens} tokens of 2 bytes (nanoGPT's)\n"))?;
            }
            Ok(())
        }
        Dataset::Text(_) => bail!(
            "{} holds text, not tokens; make a folder of tokens with: {} data prepare --corpus {} --out DIR",
            folder.display(),
            program(),
            quoted(folder)
        ),
    }
}

fn describe(manifest: &Manifest, folder: &Path) -> Result<()> {
    let Manifest {
        corpus,
        vocab_size,
        train,
        val,
        ..
    } = manifest;
    let mut text = format!(
        "folder       {}\ntext         {} document(s), {} characters, {} bytes\nvocabulary   {vocab_size}, {} bytes a token\n",
        folder.display(),
        corpus.documents,
        corpus.characters,
        corpus.bytes,
        manifest.width.bytes()
    );
    for (what, records) in [("training", train), ("validation", val)] {
        let tokens: u64 = records.iter().map(|record| record.tokens).sum();
        let bytes: u64 = records.iter().map(|record| record.text_bytes).sum();
        text += &format!(
            "{what:<12} {tokens} tokens in {} shard(s), {:.2} bytes of text a token\n",
            records.len(),
            bytes as f64 / tokens.max(1) as f64
        );
    }
    console::print(text)
}

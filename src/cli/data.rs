//! `mlx-gpt data`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use indicatif::HumanBytes;

use super::signals::Signals;
use crate::config::SpecialTokens;
use crate::data::corpus::Split;
use crate::data::dataset::Dataset;
use crate::data::manifest::Manifest;
use crate::data::prepare::{Event, prepare};
use crate::data::token_files::Layout;
use crate::data::token_folder::TokenFolder;
use crate::terminal::console::{self, program, quoted, say};
use crate::terminal::progress::{Progress, Unit};
use crate::tokenizer::Tokenizer;
use crate::train::Interrupt;

/// Turn large texts into token shards, and describe token folders
///
/// `train --corpus` takes such a folder; its shards are memory-mapped, so that training needs little memory however
/// large the text is.
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
/// Uses all cores and little memory. If interrupted, run the same command again to resume; the result is byte-identical.
/// Each file is a document, followed by the end-of-text token if the tokenizer has one.
#[derive(Args)]
#[command(before_long_help = "\
Example:

    mlx-gpt data prepare --corpus books/ --tokenizer gpt2 --out data/books
    mlx-gpt train --corpus data/books --preset gpt2")]
struct PrepareOptions {
    /// A UTF-8 text file, or a folder of them
    #[arg(long, value_name = "PATH")]
    corpus: PathBuf,
    /// gpt2, cl100k, or a path: a tokenizer.json, .model or .tiktoken, or a folder that holds one
    #[arg(long, value_name = "NAME_OR_PATH", default_value = "gpt2")]
    tokenizer: String,
    /// How to encode the text of special tokens in the corpus, such as '<|endoftext|>' between documents
    #[arg(long, value_enum, default_value_t)]
    special: SpecialTokens,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Text per shard, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    shard_size: u64,
}

/// Describe a token folder
#[derive(Args)]
#[command(before_long_help = "\
Example:

    mlx-gpt data info data/books")]
struct InfoOptions {
    /// A folder written by `data prepare`, or one with token files of nanoGPT, llm.c or build-nanogpt
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
            "`char` needs a text to take its characters from; train a tokenizer first with: {} tokenizer train --kind char --corpus {} --out FILE.json, and give its path",
            program(),
            quoted(&options.corpus)
        )
    })?;
    let bar = Progress::new("reading", 0, Unit::Bytes);
    let mut total = 0;
    let started = Instant::now();
    let mut encoded = 0;
    let mut encoding = false;
    signals.set_unsaved_work(Some("the shard that is being written".into()));
    let prepared = prepare(
        &options.corpus,
        &options.out,
        &tokenizer,
        options.special,
        options.shard_size << 20,
        |event| {
            match event {
                Event::Found(bytes) => {
                    total = bytes;
                    bar.begin("reading", total);
                }
                Event::Scanned(bytes) => bar.inc(bytes),
                Event::Encoded(bytes) => {
                    if !encoding {
                        encoding = true;
                        bar.begin("encoding", total);
                    } else {
                        encoded += bytes;
                    }
                    bar.inc(bytes);
                }
                Event::Note(note) => bar.suspend(|| say(format_args!("note      {note}"))),
            }
            signals.check()
        },
    );
    drop(bar);
    let manifest = match prepared {
        Err(_) if signals.requested() => {
            say("interrupted; run the same command again to continue after the last complete shard");
            return Ok(signals.code());
        }
        prepared => prepared?,
    };
    signals.set_unsaved_work(None);
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
        Dataset::Tokens(tokens) => describe_tokens(&tokens),
        Dataset::Text(_) | Dataset::Task(_) | Dataset::Preferences(_) | Dataset::Chat(_) => bail!(
            "{} holds text, not tokens; make a folder of tokens with: {} data prepare --corpus {} --out DIR",
            folder.display(),
            program(),
            quoted(folder)
        ),
    }
}

/// Vocabulary size to assume where none is known: the largest that nanoGPT's 16-bit ids allow.
const UNKNOWN: usize = 1 << 16;

/// Describes a folder of another program's tokens.
fn describe_tokens(tokens: &TokenFolder) -> Result<()> {
    for note in tokens.notes() {
        say(format_args!("note      {note}"));
    }
    let characters = tokens.characters().ok().map(|characters| characters.vocab_size());
    let mut text = format!("folder       {}\n", tokens.folder.display());
    if let Some(characters) = characters {
        text += &format!("vocabulary   {characters} characters, of its meta.pkl\n");
    }
    for (what, split) in [("training", Split::Train), ("validation", Split::Val)] {
        let layouts = tokens.layouts(split, characters.unwrap_or(UNKNOWN))?;
        let ids: u64 = layouts.iter().map(Layout::count).sum();
        let mut descriptions: Vec<String> = layouts.iter().map(Layout::description).collect();
        descriptions.dedup();
        text += &format!(
            "{what:<12} {ids} tokens in {} file(s): {}\n",
            layouts.len(),
            descriptions.join("; ")
        );
    }
    console::print(text)
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
        manifest.dtype.bytes()
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

//! `mlx-gpt eval`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::checkpoint::run::{find_checkpoint, run_of};
use crate::checkpoint::{Checkpoint, read_progress};
use crate::console::{self, say};
use crate::data::batches::windows;
use crate::data::corpus::{Corpus, Split};
use crate::data::tokens::Tokens;
use crate::device::Compute;
use crate::train::evaluate::Evaluator;

/// Tokens that are evaluated at once: enough to keep MLX busy, little enough for any memory.
const BATCH_TOKENS: usize = 4096;

/// Measure a model's exact loss on text
///
/// Reads the text in consecutive windows of the model's context, the last one shorter, so that every token but the
/// first is predicted exactly once. The loss is in nats per token; bits per byte compare models of different
/// tokenizers.
#[derive(Args)]
#[command(after_long_help = "\
Examples:

    mlx-gpt eval                                     the newest run, on its validation text
    mlx-gpt eval --checkpoint runs/x --split train   on what it learned from
    mlx-gpt eval --corpus other.txt --json           on another text, for programs")]
pub struct Options {
    /// A run, or one of its step folders [default: the newest run below runs/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Text to measure on [default: the run's corpus]
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// Which part of the text [default: val of the run's corpus, all of another]
    #[arg(long, value_enum)]
    split: Option<Split>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Compute>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some(device) = options.device {
        device.select()?;
    }
    let folder = find_checkpoint(options.checkpoint.as_deref())?;
    let checkpoint = Checkpoint::load(&folder)?;
    let (corpus, is_the_runs) = open_corpus(&folder, options.corpus.as_deref())?;
    for remark in &corpus.remarks {
        say(format_args!("note: corpus {}: {remark}", corpus.name));
    }
    let split = options
        .split
        .unwrap_or(if is_the_runs { Split::Val } else { Split::All });
    ensure!(
        is_the_runs || split == Split::All,
        "corpus {} is not the one that the model learned from, so it has no training and validation part; leave --split out",
        corpus.name
    );

    let text = corpus.text(split);
    let ids = checkpoint
        .tokenizer
        .encode(text)
        .with_context(|| format!("corpus {}", corpus.name))?;
    let first = text.chars().next().map_or(0, char::len_utf8);
    let bar = ProgressBar::new(ids.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} tokens {eta} left")?);
    let context = checkpoint.model.context;
    let tokens = Tokens::Memory(ids);
    let batches = windows(&tokens, (BATCH_TOKENS / context).max(1), context);
    let mut evaluator = Evaluator::new(&checkpoint.model, checkpoint.parameters.names());
    let result = evaluator.evaluate(&checkpoint.parameters, batches, |tokens| bar.inc(tokens as u64))?;
    bar.finish_and_clear();

    let bits_per_byte = result.bits_per_byte(text.len() - first);
    if options.json {
        let output = json!({
            "loss": result.loss(),
            "perplexity": result.perplexity(),
            "bits_per_byte": bits_per_byte,
            "tokens": result.tokens,
        });
        console::print(format_args!("{output}\n"))?;
    } else {
        console::print(format_args!(
            "loss           {:.4} nats per token\nperplexity     {:.4}\nbits per byte  {bits_per_byte:.4}\ntokens         {}\n",
            result.loss(),
            result.perplexity(),
            result.tokens
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The text to measure on, and whether it is the one that the checkpoint's run learned from.
fn open_corpus(checkpoint: &Path, given: Option<&str>) -> Result<(Corpus, bool)> {
    let learned_from = read_progress(checkpoint).ok().map(|progress| progress.corpus.sha256);
    if let Some(path) = given {
        let corpus = Corpus::open(path)?;
        let same = learned_from.is_some_and(|sha256| sha256 == corpus.sha256());
        return Ok((corpus, same));
    }
    let run = run_of(checkpoint).with_context(|| {
        format!(
            "checkpoint {} is not inside a run, so its text is not known; give one with --corpus",
            checkpoint.display()
        )
    })?;
    let corpus = Corpus::open(&run.config()?.corpus)?;
    ensure!(
        learned_from.is_some_and(|sha256| sha256 == corpus.sha256()),
        "corpus {} has changed since the run learned from it; give a text with --corpus",
        corpus.name
    );
    Ok((corpus, true))
}

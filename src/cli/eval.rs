//! `mlx-gpt eval`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use crate::checkpoint::runs::{self, run_of};
use crate::checkpoint::{Checkpoint, read_progress_of_training};
use crate::config::{Device, SpecialTokens};
use crate::data::corpus::Split;
use crate::data::dataset::{CorpusRecord, Dataset};
use crate::evaluate::hellaswag::{self, score};
use crate::evaluate::text::measure;
use crate::terminal::console::{self, say};
use crate::terminal::progress::{Progress, Unit};

/// Measure a model's exact loss on text, or its choices among endings
///
/// Reads the text in windows of the model's context, so that every token but the first is predicted exactly once. The
/// loss is in nats per token; bits per byte compare models of different tokenizers.
///
/// Windows lie end to end unless --stride says otherwise. At the beginning of a window the model has seen next to
/// nothing; overlapping windows give each prediction more of the text before it, which as a rule lowers the loss, and
/// takes more time. Compare losses of one context and stride only.
///
/// With --hellaswag, it asks which of several endings the model finds the likeliest after the beginning of a text. An
/// ending's loss is the sum of its tokens' negative log-likelihoods (completion style, as in Karpathy's build-nanogpt
/// and llm.c). `accuracy` counts the examples whose right ending has the smallest sum, `accuracy_normalized` those
/// whose right ending has the smallest mean over its tokens. Guessing among four endings is right in 0.25 of all
/// cases; GPT-2 124M is published as 0.2859, and normalized as 0.2955, on the 10,042 examples of hellaswag_val.jsonl.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt eval                                     the newest run, on its validation text
    mlx-gpt eval --checkpoint runs/x --split train   on what it learned from
    mlx-gpt eval --corpus other.txt --json           on another text, for programs
    mlx-gpt eval --stride 16                         in windows that begin 16 tokens apart
    mlx-gpt eval --hellaswag assets/endings.jsonl    which endings it chooses")]
pub struct Options {
    /// A run, or one of its step folders [default: the newest run below runs/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Text to measure on [default: the run's corpus]
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// Which part of the text: its last tenth is val, and of a folder of tokens what it has for it [default: val of the
    /// run's corpus, all of another]
    #[arg(long, value_enum)]
    split: Option<Split>,
    /// Tokens from the beginning of one window to that of the next, at most the model's context [default: the context]
    ///
    /// Half the context makes each prediction look at half a context or more and takes twice as long.
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// What becomes of special tokens whose text is in the text [default: as the run had it]
    #[arg(long, value_enum)]
    special: Option<SpecialTokens>,
    /// Choose among endings instead: a file of HellaSwag's format
    ///
    /// A JSON object a line, with `ctx` (how a text begins), `endings` (how it might go on) and `label` (the number of
    /// the right one, from 0); other fields are ignored. Where beginning and endings do not fit into the model's
    /// context, the first tokens of the beginning are left out, and such examples counted as `truncated`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["corpus", "split", "stride", "special"])]
    hellaswag: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some(device) = options.device {
        device.select()?;
    }
    let (checkpoint, learned_from) = runs::read(options.checkpoint.as_deref(), |folder| {
        let progress = read_progress_of_training(folder)?;
        Ok((Checkpoint::load(folder)?, progress.map(|progress| progress.corpus)))
    })?;
    match &options.hellaswag {
        Some(file) => choose_endings(&checkpoint, file, options.json)?,
        None => measure_loss(&checkpoint, learned_from, options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn measure_loss(checkpoint: &Checkpoint, learned_from: Option<CorpusRecord>, options: &Options) -> Result<()> {
    let dataset = open_dataset(&checkpoint.folder, options.corpus.as_deref(), learned_from.as_ref())?;
    for remark in dataset.remarks() {
        say(format_args!("note: corpus {}: {remark}", dataset.name()));
    }
    let is_the_runs = learned_from == Some(dataset.record()?);
    let split = options
        .split
        .unwrap_or(if is_the_runs { Split::Val } else { Split::All });
    // Of an import or an export it is not known what it learned from: its user may. Folders of tokens have parts of their own.
    ensure!(
        is_the_runs || split == Split::All || learned_from.is_none() || dataset.has_parts(),
        "corpus {} is not the one that the model learned from, so it has no training and validation part; leave --split out",
        dataset.name()
    );

    let special = match options.special {
        Some(special) => special,
        None => match run_of(&checkpoint.folder) {
            Some(run) => run.config()?.special,
            None => SpecialTokens::default(),
        },
    };
    if let Some(note) = dataset.note_on_special_tokens(&checkpoint.tokenizer, special) {
        say(format_args!("note: corpus {}: {note}", dataset.name()));
    }
    let part = dataset.part_with(&checkpoint.tokenizer, split, special)?;
    let context = checkpoint.model.context;
    let stride = options.stride.unwrap_or(context);
    let bar = Progress::new("measuring", part.tokens.len() as u64, Unit::Of("tokens"));
    let (result, bits_per_byte) = measure(checkpoint, &part, stride, |tokens| bar.inc(tokens as u64))?;
    drop(bar);
    if options.json {
        let output = json!({
            "loss": result.loss(),
            "perplexity": result.perplexity(),
            "bits_per_byte": bits_per_byte,
            "tokens": result.tokens,
            "stride": stride,
            "context": context,
        });
        return console::print(format_args!("{output}\n"));
    }
    let bits_per_byte = bits_per_byte.map_or("unknown for these tokens".into(), |bits| format!("{bits:.4}"));
    console::print(format_args!(
        "loss           {:.4} nats per token\nperplexity     {:.4}\nbits per byte  {bits_per_byte}\ntokens         {}\nstride         {stride}, in windows of {context} tokens\n",
        result.loss(),
        result.perplexity(),
        result.tokens
    ))
}

fn choose_endings(checkpoint: &Checkpoint, file: &Path, json: bool) -> Result<()> {
    let context = checkpoint.model.context;
    let examples = hellaswag::read(file, &checkpoint.tokenizer, context)?;
    let endings: usize = examples.iter().map(|example| example.endings.len()).sum();
    let bar = Progress::new("measuring", endings as u64, Unit::Of("endings"));
    let report = score(checkpoint, &examples, |endings| bar.inc(endings as u64))?;
    drop(bar);
    if json {
        return console::print(serde_json::to_string(&report)? + "\n");
    }
    console::print(format_args!(
        "accuracy    {:.4} by the sum of an ending's losses\nnormalized  {:.4} by their mean\nexamples    {}\ntruncated   {} to fit into a context of {context}\n",
        report.accuracy, report.accuracy_normalized, report.examples, report.truncated
    ))
}

/// What to measure on: the text that was given, or that of the checkpoint's run.
fn open_dataset(checkpoint: &Path, given: Option<&str>, learned_from: Option<&CorpusRecord>) -> Result<Dataset> {
    if let Some(name) = given {
        return Dataset::open(name);
    }
    let run = run_of(checkpoint).with_context(|| {
        format!(
            "checkpoint {} is not inside a run, so its text is not known; give one with --corpus",
            checkpoint.display()
        )
    })?;
    let dataset = Dataset::open(&run.config()?.corpus)?;
    ensure!(
        learned_from == Some(&dataset.record()?),
        "corpus {} has changed since the run learned from it; give a text with --corpus",
        dataset.name()
    );
    Ok(dataset)
}

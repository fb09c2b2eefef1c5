//! `mlx-gpt eval`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use super::eval_chat::ChatEvaluation;
use crate::checkpoint::runs::{self, run_of};
use crate::checkpoint::{Checkpoint, CheckpointState, read_state_if_any, reference};
use crate::config::{Device, Objective, SpecialTokens, TrainConfig};
use crate::data::corpus::Split;
use crate::data::dataset::{CorpusRecord, Dataset};
use crate::data::preferences::PreferenceData;
use crate::data::tasks::TaskData;
use crate::evaluate::Evaluator;
use crate::evaluate::hellaswag::{self, score};
use crate::evaluate::preferences::{PreferenceScore, pair_logprobs};
use crate::evaluate::task::{Answers, Score};
use crate::evaluate::text::evaluate_checkpoint;
use crate::terminal::console::{self, say};
use crate::terminal::progress::{Progress, Unit};

/// Evaluate a model's exact loss on a text or on conversations, or its accuracy on a task, on preference pairs or on HellaSwag
///
/// Reads the text in windows of the model's context, so that every token but the first is predicted exactly once. The
/// loss is in nats per token; bits per byte also compare models with different tokenizers.
///
/// Windows don't overlap unless --stride is given. Tokens at the start of a window have little context; overlapping
/// windows give each prediction more context, which usually lowers the loss and takes more time. Compare losses only
/// at the same context and stride.
///
/// A model of `train --task` needs no text: it solves 10,000 problems that were never trained on (or all there are) by
/// greedy decoding, and `accuracy` is the fraction of exactly right answers.
///
/// With --preferences, or of a model of `train --preferences`, `accuracy` is the fraction of pairs whose chosen answer is
/// preferred to the rejected one: by its log-ratio to the model that the run was tuned from, or where there is none, by its
/// log-probability. Of the file that the run was trained on, only held-out pairs count.
///
/// Of a model of `train --chat`, or with --chat, the loss is that of the assistant's answers alone, each with the token that ends
/// it. With --accuracy, the model also answers the last question of each conversation by greedy decoding, and `accuracy` is
/// the fraction of answers that are exactly those of the file.
///
/// With --hellaswag, the model chooses the most likely of several endings of a text. An ending's loss is the sum of its
/// tokens' negative log-likelihoods (completion style, as in Karpathy's build-nanogpt and llm.c). `accuracy` is the
/// fraction of examples whose correct ending has the lowest sum, `accuracy_normalized` of those whose correct ending
/// has the lowest mean over its tokens. Chance level is 0.25 for four endings; GPT-2 124M's published accuracy is
/// 0.2859, and 0.2955 normalized, on the 10,042 examples of hellaswag_val.jsonl.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt eval                                     the newest run, on its validation text
    mlx-gpt eval --checkpoint runs/x --split train   on its training text
    mlx-gpt eval --corpus other.txt --json           on another text, for programs
    mlx-gpt eval --stride 16                         in windows that start 16 tokens apart
    mlx-gpt eval --checkpoint runs/addition --json   accuracy on a task
    mlx-gpt eval --preferences pairs.jsonl           share of preferred answers
    mlx-gpt eval --chat test.jsonl --accuracy        loss on answers, and how many are right
    mlx-gpt eval --hellaswag assets/endings.jsonl    multiple-choice accuracy")]
pub struct Options {
    /// A run, or one of its step folders [default: the newest run below runs/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Text to evaluate on [default: the run's corpus]
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// Conversations to evaluate on, in JSONL as for train [default: the run's, if it was trained on some]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["corpus", "stride", "special", "hellaswag"])]
    chat: Option<String>,
    /// Also compare the model's answer to the last question of each conversation
    #[arg(long)]
    accuracy: bool,
    /// Which part of the text: val is its last tenth; a token folder has its own splits [default: val of the run's
    /// corpus, all of another]
    #[arg(long, value_enum)]
    split: Option<Split>,
    /// Tokens from the start of one window to the start of the next, at most the model's context [default: the context]
    ///
    /// With half the context, each prediction has at least half a context before it, and evaluation takes twice as long.
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// How to encode the text of special tokens [default: as in the run]
    #[arg(long, value_enum)]
    special: Option<SpecialTokens>,
    /// Evaluate which of two answers the model prefers instead, on a file of pairs: JSON lines with prompt, chosen and rejected
    #[arg(long, value_name = "FILE", conflicts_with_all = ["corpus", "split", "stride", "special", "hellaswag"])]
    preferences: Option<PathBuf>,
    /// Evaluate multiple-choice accuracy instead, on a file in HellaSwag's format
    ///
    /// One JSON object per line, with `ctx` (the start of a text), `endings` (possible continuations) and `label` (the
    /// index of the correct one, from 0); other fields are ignored. If `ctx` and endings don't fit into the model's
    /// context, the first tokens of `ctx` are dropped, and the example is counted as `truncated`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["corpus", "split", "stride", "special"])]
    hellaswag: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
}

impl Options {
    /// # Errors
    /// An option for texts was given, but the run was trained on something else.
    fn ensure_none_of_a_text(&self, checkpoint: &Checkpoint, trained_on: &str) -> Result<()> {
        for (option, given) in [
            ("corpus", self.corpus.is_some()),
            ("split", self.split.is_some()),
            ("stride", self.stride.is_some()),
            ("special", self.special.is_some()),
        ] {
            ensure!(
                !given,
                "{} was trained on {trained_on}, not on a text, so {option} does not apply; leave --{option} out",
                checkpoint.folder.display()
            );
        }
        Ok(())
    }
}

pub fn run(options: &Options) -> Result<ExitCode> {
    Device::select_or_current(options.device)?;
    let (checkpoint, state) = runs::read_checkpoint(options.checkpoint.as_deref(), |folder| {
        let state = read_state_if_any(folder)?;
        Ok((Checkpoint::load(folder)?, state))
    })?;
    let config = state.as_ref().and_then(|state| state.config.as_ref());
    let task = config.map(TaskData::of_config).transpose()?.flatten();
    let own_pairs = config.and_then(|config| config.preferences.as_deref()).map(Path::new);
    let own_pairs =
        own_pairs.filter(|_| options.hellaswag.is_none() && options.corpus.is_none() && options.chat.is_none());
    if let Some(file) = options.preferences.as_deref().or(own_pairs) {
        options.ensure_none_of_a_text(&checkpoint, "preference pairs")?;
        measure_preferences(&checkpoint, state.as_ref(), file, options.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let chat = ChatEvaluation {
        given: options.chat.as_deref(),
        trained_on: config.and_then(|config| config.chat.as_deref()),
        record: state.as_ref().map(|state| &state.corpus),
        split: options.split,
        accuracy: options.accuracy,
        json: options.json,
    };
    let is_chat = chat.given.is_some() || (chat.trained_on.is_some() && options.corpus.is_none());
    ensure!(
        !options.accuracy || (is_chat && options.hellaswag.is_none()),
        "accuracy is for conversations; give some with --chat, or leave --accuracy out"
    );
    match (&options.hellaswag, task) {
        (Some(file), _) => evaluate_hellaswag(&checkpoint, file, options.json)?,
        (None, _) if is_chat => chat.run(&checkpoint)?,
        (None, Some(task)) => measure_accuracy(&checkpoint, &task, options)?,
        (None, None) => measure_loss(&checkpoint, state.map(|state| state.corpus), options)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The fraction of held-out problems of the task that the model solves.
fn measure_accuracy(checkpoint: &Checkpoint, task: &TaskData, options: &Options) -> Result<()> {
    options.ensure_none_of_a_text(checkpoint, &format!("task {}", task.name()))?;
    let problems = task.held_out(PROBLEMS);
    let bar = Progress::new("solving", problems.len() as u64, Unit::Of("problems"));
    let generator = checkpoint.generator()?;
    let answers = Answers::of(&generator, &checkpoint.tokenizer, problems, |count| {
        bar.inc(count as u64)
    })?;
    drop(bar);
    let (score, categories) = (answers.score(), answers.by_category());
    if options.json {
        let categories: serde_json::Map<_, _> = categories
            .iter()
            .map(|(category, score)| (category.to_string(), json!(score.accuracy())))
            .collect();
        let output = json!({
            "accuracy": score.accuracy(),
            "correct": score.correct,
            "problems": score.problems,
            "categories": categories,
        });
        return console::print(format_args!("{output}\n"));
    }
    let of = |score: Score| format!("{:.4}  {} of {}", score.accuracy(), score.correct, score.problems);
    let lines = categories
        .iter()
        .map(|(category, score)| format!("{:<15}{}\n", category.to_string(), of(*score)));
    console::print(format_args!(
        "accuracy       {} held-out problems\n{}",
        of(score),
        lines.collect::<String>()
    ))
}

/// The fraction of pairs whose chosen answer is preferred.
fn measure_preferences(
    checkpoint: &Checkpoint,
    state: Option<&CheckpointState>,
    file: &Path,
    json: bool,
) -> Result<()> {
    let data = PreferenceData::read(file)?;
    let records = match state {
        Some(state) if state.corpus.sha256 == data.sha256 => data.split(Split::Val)?,
        _ => data.split(Split::All)?,
    };
    let context = checkpoint.model.context;
    let pairs = data.pairs(
        &records,
        &checkpoint.tokenizer,
        checkpoint.chat_template.as_ref(),
        context,
    )?;
    let reference = match (
        state.and_then(|state| state.reference.as_deref()),
        run_of(&checkpoint.folder),
    ) {
        (Some(hash), Some(run)) => Some(reference::load(&run, hash)?),
        _ => None,
    };
    let all: Vec<usize> = (0..pairs.len()).collect();
    let models = 1 + usize::from(reference.is_some());
    let bar = Progress::new("measuring", (models * pairs.len()) as u64, Unit::Of("pairs"));
    let logprobs = |model: &Checkpoint| {
        let mut evaluator = Evaluator::of_checkpoint(model)?;
        pair_logprobs(&mut evaluator, &model.parameters, &pairs, &all, context, |count| {
            bar.inc(count as u64)
        })
    };
    let of_model = logprobs(checkpoint)?;
    let of_reference = reference.as_ref().map(&logprobs).transpose()?;
    let beta = match state
        .and_then(|state| state.config.as_ref())
        .map(TrainConfig::objective)
    {
        Some(Objective::Dpo { beta }) => beta,
        _ => 1.0, // as log-ratios
    };
    let score = PreferenceScore::of(&of_model, of_reference.as_deref().map(|reference| (reference, beta)));
    drop(bar);
    if json {
        return console::print(serde_json::to_string(&score)? + "\n");
    }
    let loss = score
        .loss
        .map_or(String::new(), |loss| format!("loss      {loss:.4}\n"));
    let how = match reference {
        Some(_) => "by log-ratios to the reference model",
        None => "by log-probabilities",
    };
    console::print(format_args!(
        "accuracy  {:.4} of {} pairs, {how}\nmargin    {:.4} nats\n{loss}",
        score.accuracy, score.pairs, score.margin
    ))
}

/// Held-out problems of a task that are solved, or as many as there are.
const PROBLEMS: usize = 10_000;

fn measure_loss(checkpoint: &Checkpoint, training_corpus: Option<CorpusRecord>, options: &Options) -> Result<()> {
    let dataset = open_dataset(&checkpoint.folder, options.corpus.as_deref(), training_corpus.as_ref())?;
    for note in dataset.notes() {
        say(format_args!("note: corpus {}: {note}", dataset.name()));
    }
    let is_training_corpus = training_corpus == Some(dataset.record()?);
    let split = options
        .split
        .unwrap_or(if is_training_corpus { Split::Val } else { Split::All });
    // The training corpus of an import or an export is unknown here; the user may know it. Token folders have their own splits.
    ensure!(
        is_training_corpus || split == Split::All || training_corpus.is_none() || dataset.has_fixed_splits(),
        "corpus {} is not the training corpus, so it has no train/val split; leave --split out",
        dataset.name()
    );

    let special = match options.special {
        Some(special) => special,
        None => match run_of(&checkpoint.folder) {
            Some(run) => run.config()?.special,
            None => SpecialTokens::default(),
        },
    };
    if let Some(note) = dataset.special_token_note(&checkpoint.tokenizer, special) {
        say(format_args!("note: corpus {}: {note}", dataset.name()));
    }
    let part = dataset.tokens_with(&checkpoint.tokenizer, split, special)?;
    let context = checkpoint.model.context;
    let stride = options.stride.unwrap_or(context);
    let bar = Progress::new("measuring", part.tokens.len() as u64, Unit::Of("tokens"));
    let (result, bits_per_byte) = evaluate_checkpoint(checkpoint, &part, stride, |tokens| bar.inc(tokens as u64))?;
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

fn evaluate_hellaswag(checkpoint: &Checkpoint, file: &Path, json: bool) -> Result<()> {
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

/// The text to evaluate on: the one given, or that of the checkpoint's run.
fn open_dataset(checkpoint: &Path, given: Option<&str>, training_corpus: Option<&CorpusRecord>) -> Result<Dataset> {
    if let Some(name) = given {
        return Dataset::open(name);
    }
    let run = run_of(checkpoint).with_context(|| {
        format!(
            "checkpoint {} is not inside a run, so its text is not known; give one with --corpus",
            checkpoint.display()
        )
    })?;
    let dataset = Dataset::of_config(&run.config()?)?;
    ensure!(
        training_corpus == Some(&dataset.record()?),
        "corpus {} has changed since the run was trained on it; give a text with --corpus",
        dataset.name()
    );
    Ok(dataset)
}

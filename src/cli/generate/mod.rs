//! `mlx-gpt generate`.

mod in_order;
mod interactive;
mod line_reader;
mod samples;
mod sampling;
mod speed;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::tokenizer::read_text;
use crate::checkpoint::{Checkpoint, runs};
use crate::config::{Device, SpecialTokens};
use crate::generate::{CompletionOptions, LanguageModel};
use crate::terminal::console::say;
use sampling::SamplingOptions;

/// Write text with a trained model
///
/// Continues a prompt, one token at a time, as it comes; any length: when the model's context is full, its last half is
/// kept and filled up again. How many tokens a second, and how long the first took, is said on standard error.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt generate                                        more of the newest run
    mlx-gpt generate --prompt 'ROMEO:' --temperature 0.7    a speech, with fewer surprises
    mlx-gpt generate --temperature 0                        the most likely text, always the same
    mlx-gpt generate --prompt 'ROMEO:' --stop $'\\n\\n'       one speech: up to an empty line
    mlx-gpt generate --prompt '<|endoftext|>' --special allow   what begins a text
    mlx-gpt generate --interactive                          write in turns with the model
    mlx-gpt generate --samples 3 --seed 1 --json            for programs")]
pub struct Options {
    /// A run, or one of its step folders [default: the newest run below runs/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Text to continue [default: the token that begins a text; for characters, a new line]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// A file with the text to continue, taken as it is; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompt_file: Option<PathBuf>,
    /// What becomes of special tokens whose text is in the prompt, such as '<|endoftext|>'
    #[arg(long, value_enum, default_value_t)]
    special: SpecialTokens,
    /// Write in turns: what is typed goes on from the text so far, and the model from there
    ///
    /// The text so far stays in the model's context and is not computed again. A line begins a new line of the text; an
    /// empty one lets the model go on. Ctrl-C stops the model, Ctrl-D ends it; /help lists what else there is. Lines
    /// typed at a terminal are kept for the next time.
    #[arg(long)]
    interactive: bool,
    /// Tokens to write, at most
    #[arg(long, value_name = "N", default_value_t = 500)]
    max_new_tokens: usize,
    #[command(flatten)]
    sampling: SamplingOptions,
    /// End where this text comes, and leave it out; give it several times for several texts
    ///
    /// The one that is complete first counts. Its tokens are the last of --json's ids.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Go on after a token that ends a text
    #[arg(long)]
    ignore_eos: bool,
    /// How many texts to write; side by side, and shown one after the other, the first as it comes
    #[arg(long, value_name = "N", default_value_t = 1)]
    samples: u64,
    /// Repeats a draw [default: another one each time, said on standard error]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print one JSON object: texts, new token ids, their log-probabilities as the model gave them, and why each ended
    /// (length, stop or end_of_text)
    #[arg(long)]
    json: bool,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
}

/// What to write, and with what.
struct Task<'a> {
    model: &'a LanguageModel,
    /// The prompt as it was given, if it was.
    prompt: Option<String>,
    options: CompletionOptions,
}

/// Says what is to be known of special tokens in what a person wrote.
fn note_on_special_tokens(model: &LanguageModel, text: &str, special: SpecialTokens) {
    if let Some(note) = model.tokenizer().note_on_special_tokens(text, special) {
        say(format_args!("note: {note}"));
    }
}

/// Bytes of a prompt, at most: about a million tokens, of which a model sees those at the end that its context holds.
const MOST_PROMPT: u64 = 1 << 22;

/// More samples than anybody reads; each takes some memory from the start.
const MOST_SAMPLES: u64 = 1 << 20;

pub fn run(options: &Options) -> Result<ExitCode> {
    let sampling = options.sampling.sampling()?;
    ensure!(options.samples >= 1, "samples is 0; it must be at least 1");
    ensure!(
        options.samples <= MOST_SAMPLES,
        "samples is {}; it can be at most {MOST_SAMPLES}",
        options.samples
    );
    ensure!(
        options.stop.iter().all(|stop| !stop.is_empty()),
        "stop is empty; give at least one character"
    );
    if options.interactive {
        ensure!(!options.json, "--interactive writes no JSON; leave out one of them");
        ensure!(
            options.samples == 1,
            "--interactive writes one text; leave --samples out"
        );
        ensure!(
            options.prompt_file.as_deref() != Some(Path::new("-")),
            "--interactive reads standard input itself; give --prompt-file a file"
        );
    }
    if let Some(device) = options.device {
        device.select()?;
    }
    let prompt = match (&options.prompt, &options.prompt_file) {
        (None, Some(file)) => Some(read_text(file, MOST_PROMPT).context("prompt, of which a model sees the end")?),
        (text, _) => text.clone(),
    };
    let checkpoint = runs::read(options.checkpoint.as_deref(), Checkpoint::load)?;
    let seed = options.seed.unwrap_or_else(|| u64::from(rand_seed()));
    let task = Task {
        model: &checkpoint.language_model()?,
        prompt,
        options: CompletionOptions {
            max_new_tokens: options.max_new_tokens,
            sampling,
            stop: options.stop.clone(),
            ignore_end_of_text: options.ignore_eos,
            special: options.special,
            seed,
        },
    };
    say(format_args!("{} · seed {seed}", checkpoint.folder.display()));
    if options.interactive {
        interactive::run(task)
    } else {
        samples::run(&task, options.samples, options.json)
    }
}

/// A seed that differs from one start of the program to the next, short enough to type.
fn rand_seed() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32
}

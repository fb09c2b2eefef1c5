//! `mlx-gpt generate`.

mod in_order;
mod interactive;
mod line_reader;
mod samples;
mod sampling;
mod speed;

pub use interactive::watch_interrupts;
pub use line_reader::{Input, LineReader};
pub use sampling::SamplingOptions;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::display::DisplayOptions;
use super::tokenizer::read_text;
use crate::checkpoint::{Checkpoint, runs};
use crate::config::{Device, SpecialTokens};
use crate::frame::Target;
use crate::generate::{CompletionOptions, LanguageModel};
use crate::terminal::console::say;

/// Generate text with a trained model
///
/// Continues a prompt token by token, and prints the text as it is generated, to any length: when the model's context is
/// full, generation continues from its last half. Speed and time to the first token are printed on standard error.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt generate                                        more of the newest run
    mlx-gpt generate --prompt 'ROMEO:' --temperature 0.7    a speech, less random
    mlx-gpt generate --temperature 0                        greedy decoding, always the same text
    mlx-gpt generate --prompt 'ROMEO:' --stop $'\\n\\n'       one speech: up to an empty line
    mlx-gpt generate --prompt '<|endoftext|>' --special allow   from the end-of-text token
    mlx-gpt generate --interactive                          take turns with the model
    mlx-gpt generate --max-new-tokens 99 --display term     as a frame of an e-ink panel
    mlx-gpt generate --samples 3 --seed 1 --json            for programs")]
pub struct Options {
    /// A run, or one of its step folders [default: the newest run below runs/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Text to continue [default: the token that begins a text; with a character tokenizer, a new line]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// A file with the text to continue, used unchanged; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompt_file: Option<PathBuf>,
    /// How to encode the text of special tokens in the prompt, such as '<|endoftext|>'
    #[arg(long, value_enum, default_value_t)]
    special: SpecialTokens,
    /// Take turns: what is typed is appended to the text, and the model continues it
    ///
    /// The text so far stays in the key-value cache and is not computed again. A typed line is appended on a new line; an
    /// empty line continues generation. Ctrl-C stops the model, Ctrl-D quits; /help lists the other commands. The history
    /// of lines typed at a terminal is kept.
    #[arg(long)]
    interactive: bool,
    /// Maximum number of tokens to generate
    #[arg(long, value_name = "N", default_value_t = 500)]
    max_new_tokens: usize,
    #[command(flatten)]
    sampling: SamplingOptions,
    /// Stop string: generation ends at it, and it is not part of the output; may be repeated
    ///
    /// Of several, the one that is completed first counts. Its tokens are the last of --json's ids.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Don't stop at end-of-text (eos) tokens
    #[arg(long)]
    ignore_eos: bool,
    /// Number of texts to generate, in parallel; shown one after the other, the first as it is generated
    #[arg(long, value_name = "N", default_value_t = 1)]
    samples: u64,
    /// Random seed of the sampling [default: a new one each time, printed on standard error]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print one JSON object: texts, generated token ids, their log-probabilities under the model, and why each text ended
    /// (length, stop or end_of_text)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    display: DisplayOptions,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
}

/// A model, a prompt and how to continue it.
struct Request<'a> {
    model: &'a LanguageModel,
    /// The text of --prompt or --prompt-file, if given.
    prompt: Option<String>,
    options: CompletionOptions,
}

/// Prints a note on special tokens in the user's text, if there is one.
fn special_token_note(model: &LanguageModel, text: &str, special: SpecialTokens) {
    if let Some(note) = model.tokenizer().special_token_note(text, special) {
        say(format_args!("note: {note}"));
    }
}

/// Maximum size of a prompt: about a million tokens, of which the model sees the last ones that its context holds.
const MAX_PROMPT_BYTES: u64 = 1 << 22;

/// Each sample takes some memory from the start.
const MAX_SAMPLES: u64 = 1 << 20;

pub fn run(options: &Options) -> Result<ExitCode> {
    let sampling = options.sampling.sampling()?;
    ensure!(options.samples >= 1, "samples is 0; it must be at least 1");
    ensure!(
        options.samples <= MAX_SAMPLES,
        "samples is {}; it can be at most {MAX_SAMPLES}",
        options.samples
    );
    ensure!(
        options.stop.iter().all(|stop| !stop.is_empty()),
        "stop is empty; give at least one character"
    );
    if options.interactive {
        ensure!(!options.json, "--interactive prints no JSON; leave out one of them");
        ensure!(
            options.samples == 1,
            "--interactive generates one text; leave --samples out"
        );
        ensure!(
            options.prompt_file.as_deref() != Some(Path::new("-")),
            "--interactive reads standard input itself; give --prompt-file a file"
        );
    }
    if let Some(display) = &options.display.display {
        ensure!(!options.interactive, "--interactive has no frame; leave --display out");
        ensure!(options.samples == 1, "a frame holds one text; leave --samples out");
        ensure!(
            !options.json || *display != Target::Terminal,
            "--json prints nothing else; give --display a file or a device"
        );
    }
    Device::select_or_current(options.device)?;
    let prompt = match (&options.prompt, &options.prompt_file) {
        (None, Some(file)) => Some(read_text(file, MAX_PROMPT_BYTES).context("prompt")?),
        (text, _) => text.clone(),
    };
    let checkpoint = runs::read_checkpoint(options.checkpoint.as_deref(), Checkpoint::load_mapped)?;
    let seed = options.seed.unwrap_or_else(|| u64::from(random_seed()));
    let request = Request {
        model: &checkpoint.language_model()?,
        prompt,
        options: CompletionOptions {
            max_new_tokens: options.max_new_tokens,
            sampling,
            stop: options.stop.clone(),
            ignore_eos: options.ignore_eos,
            special: options.special,
            seed,
        },
    };
    say(format_args!("{} · seed {seed}", checkpoint.folder.display()));
    if options.interactive {
        interactive::run(request)
    } else {
        let display = options
            .display
            .display
            .as_ref()
            .map(|_| options.display.open())
            .transpose()?;
        samples::run(&request, options.samples, options.json, display)
    }
}

/// A random seed, short enough to type.
pub fn random_seed() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32
}

//! `mlx-gpt tokenizer train`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::config::DEFAULT_CORPUS;
use crate::data::corpus::{Corpus, Split};
use crate::disk::{durable, files};
use crate::terminal::console;
use crate::terminal::progress::{Progress, Spinner, Unit};
use crate::tokenizer::folder::{TOKENIZER, TOKENIZER_CONFIG};
use crate::tokenizer::{
    Bpe, CharTokenizer, Pattern, PreTokenizer, SpecialTokenPolicy, Tokenizer, train_sentencepiece, train_unigram,
};

/// Time before the first message on training without progress.
const FIRST_UPDATE: Duration = Duration::from_secs(2);

/// Time between such messages.
const UPDATE_INTERVAL: Duration = Duration::from_secs(5);

/// The default size of the vocabulary.
const VOCAB_SIZE: usize = 4096;

/// Train a tokenizer on a text
///
/// Writes a tokenizer.json, with which Hugging Face's `tokenizers` encodes identically. `bpe` is this program's own
/// byte-level BPE: it encodes any text, and decoding returns it unchanged. `unigram` and `sentencepiece` are trained by
/// Hugging Face's library; they decode a literal ▁ to a space.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt tokenizer train --vocab-size 4096 --out my-tok
    mlx-gpt tokenizer train --corpus notes.txt --vocab-size 1000 --special '<|endoftext|>' --out notes.json
    mlx-gpt tokenizer train --corpus notes.txt --pattern '\\p{L}+|\\p{N}|[^\\p{L}\\p{N}]+' --out words
    mlx-gpt tokenizer show --tokenizer my-tok 'What light through yonder window breaks?'")]
pub struct Options {
    /// A text file or a folder of them; all of the text is used [default: the built-in corpus]
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// Total number of tokens, including bytes and special tokens [default: 4096; char: one per character]
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// Kind of tokenizer
    #[arg(long, value_enum, default_value = "bpe")]
    kind: TokenizerKind,
    /// How bpe splits text into chunks that no merge crosses: gpt2, gpt4, or a regular expression whose matches, and the
    /// text between them, are the chunks [default: gpt2]
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<PreTokenizer>,
    /// A special token, which gets one of the last ids; the corpus is split at it; may be repeated
    #[arg(long, value_name = "TEXT")]
    special: Vec<String>,
    /// A folder for tokenizer.json and tokenizer_config.json, or a file whose name ends in .json
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TokenizerKind {
    /// Byte-level BPE, as in GPT-2 and GPT-4
    Bpe,
    /// Unigram, with byte fallback for rare characters
    Unigram,
    /// BPE over characters with byte fallback, as in sentencepiece
    Sentencepiece,
    /// One token per character
    Char,
}

pub fn run(options: &Options) -> Result<()> {
    ensure!(
        options.kind == TokenizerKind::Bpe || options.pattern.is_none(),
        "--pattern only applies to --kind bpe; leave it out"
    );
    ensure!(
        options.kind != TokenizerKind::Char || (options.vocab_size.is_none() && options.special.is_empty()),
        "--kind char has one token per character and no others; leave --vocab-size and --special out"
    );
    let file = output_file(&options.out);
    ensure_free(&options.out)?;
    let corpus = Corpus::open(options.corpus.as_deref().unwrap_or(DEFAULT_CORPUS))?;
    for note in &corpus.notes {
        console::say(format_args!("note: corpus {}: {note}", corpus.name));
    }
    let text = corpus.text(Split::All);
    let tokenizer = train(options, text).with_context(|| format!("corpus {}", corpus.name))?;
    let tokens = tokenizer.encode_with(text, &SpecialTokenPolicy::ALLOW)?.len();
    let asked = options.vocab_size.unwrap_or(VOCAB_SIZE);
    if options.kind != TokenizerKind::Char && tokenizer.vocab_size() < asked {
        console::say(format_args!(
            "note: corpus {}: it has enough text for only {} of the {asked} tokens asked for",
            corpus.name,
            tokenizer.vocab_size()
        ));
    }

    save(&tokenizer, &options.out)?;
    console::print(format_args!(
        "{}: {} tokens, {:.2} bytes per token of its corpus\n",
        file.display(),
        tokenizer.vocab_size(),
        text.len() as f64 / tokens as f64
    ))
}

/// The tokenizer's file for `--out`: `out` itself, or tokenizer.json in that folder.
pub fn output_file(out: &Path) -> PathBuf {
    if is_file(out) {
        out.to_owned()
    } else {
        out.join(TOKENIZER)
    }
}

fn is_file(out: &Path) -> bool {
    out.extension().is_some_and(|extension| extension == "json")
}

/// Checks that [`save`] would replace no file: none but the tokenizer_config.json that an earlier call left when it was ended
/// before it had written the tokenizer.
///
/// # Errors
/// It would.
pub fn ensure_free(out: &Path) -> Result<()> {
    durable::ensure_free(&output_file(out))?;
    let config_file = out.join(TOKENIZER_CONFIG);
    if is_file(out) || is_own_config(&config_file) {
        return Ok(());
    }
    durable::ensure_free(&config_file)
}

/// Whether it is a tokenizer_config.json as [`save`] writes it, for any tokenizer.
fn is_own_config(file: &Path) -> bool {
    let of_none = config(&CharTokenizer::from_text("").into()); // which has no special tokens
    files::read_json::<Map<String, Value>>(file, "a tokenizer's configuration").is_ok_and(|mut found| {
        found.remove("bos_token");
        found.remove("eos_token");
        Value::Object(found) == of_none
    })
}

/// The tokenizer_config.json of a tokenizer; the maximum length of a text, which belongs there, depends on the model.
fn config(tokenizer: &Tokenizer) -> Value {
    let mut config = tokenizer.config_json(0);
    config.as_object_mut().map(|config| config.remove("model_max_length"));
    config
}

/// Writes a tokenizer to a file, or to a folder with what `transformers` needs beside it.
///
/// # Errors
/// A file exists already, or cannot be written.
pub fn save(tokenizer: &Tokenizer, out: &Path) -> Result<()> {
    ensure_free(out)?;
    let file = output_file(out);
    let json = serde_json::to_vec(&tokenizer.to_json())?;
    let _made = durable::make_parents(&file)?;
    if is_file(out) {
        return durable::fill_file(&file, |temp| Ok(fs::write(temp, &json)?));
    }
    let config_file = out.join(TOKENIZER_CONFIG);
    let is_new = !config_file.exists();
    // tokenizer.json is renamed into place last: where it exists, its configuration does, too.
    let written = durable::fill_file(&file, |temp| {
        durable::write_file(&config_file, &serde_json::to_vec_pretty(&config(tokenizer))?)?;
        Ok(fs::write(temp, &json)?)
    });
    if written.is_err() && is_new && !file.exists() {
        let _ = fs::remove_file(config_file);
    }
    written
}

fn train(options: &Options, text: &str) -> Result<Tokenizer> {
    let vocab_size = options.vocab_size.unwrap_or(VOCAB_SIZE);
    let specials: Vec<&str> = options.special.iter().map(String::as_str).collect();
    Ok(match options.kind {
        TokenizerKind::Bpe => {
            let pre_tokenizer = options.pattern.clone().unwrap_or(Pattern::Gpt2.into());
            let progress = Progress::new("training", vocab_size as u64, Unit::Of("merges"));
            Bpe::train(text, vocab_size, pre_tokenizer, &specials, |merges| {
                progress.set_position(merges as u64)
            })?
            .into()
        }
        TokenizerKind::Unigram => with_elapsed_spinner(|| train_unigram(text, vocab_size, &specials))?.into(),
        TokenizerKind::Sentencepiece => {
            with_elapsed_spinner(|| train_sentencepiece(text, vocab_size, &specials))?.into()
        }
        TokenizerKind::Char => CharTokenizer::from_text(text).into(),
    })
}

/// Runs `work` with a spinner that shows the time so far.
fn with_elapsed_spinner<T>(work: impl FnOnce() -> T) -> T {
    let (done, waits) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let started = Instant::now();
            if waits.recv_timeout(FIRST_UPDATE) == Err(RecvTimeoutError::Timeout) {
                let spinner = Spinner::start();
                loop {
                    let seconds = started.elapsed().as_secs();
                    spinner.stage(&format!("training, in Hugging Face's library: {seconds} s so far"));
                    if waits.recv_timeout(UPDATE_INTERVAL) != Err(RecvTimeoutError::Timeout) {
                        break;
                    }
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

//! `mlx-gpt tokenizer train`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::config::DEFAULT_CORPUS;
use crate::data::corpus::{Corpus, Split};
use crate::disk::durable;
use crate::terminal::console;
use crate::terminal::progress::{Progress, Spinner, Unit};
use crate::tokenizer::folder::{TOKENIZER, TOKENIZER_CONFIG};
use crate::tokenizer::{
    Bpe, CharTokenizer, Pattern, PreTokenizer, SpecialChoice, Tokenizer, train_sentencepiece, train_unigram,
};

/// Training that takes longer than this says so,
const SLOW: Duration = Duration::from_secs(2);

/// and again after each of these.
const AGAIN: Duration = Duration::from_secs(5);

/// The vocabulary where none is asked for.
const VOCAB_SIZE: usize = 4096;

/// Learn a tokenizer from text
///
/// Writes a tokenizer.json, which Hugging Face's `tokenizers` loads and encodes identically with. `bpe` is trained by
/// this program's own byte-level BPE: any text can be encoded and comes back the same. `unigram` and `sentencepiece`
/// are trained by Hugging Face's library; a literal ▁ comes back as a space.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt tokenizer train --vocab-size 4096 --out my-tok
    mlx-gpt tokenizer train --corpus notes.txt --vocab-size 1000 --special '<|endoftext|>' --out notes.json
    mlx-gpt tokenizer train --corpus notes.txt --pattern '\\p{L}+|\\p{N}|[^\\p{L}\\p{N}]+' --out words
    mlx-gpt tokenizer show --tokenizer my-tok 'What light through yonder window breaks?'")]
pub struct Options {
    /// A text file or a folder of them, all of which is learned from [default: the built-in corpus]
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// Tokens in all, bytes and special tokens included [default: 4096; char: one a character]
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// What kind of tokenizer
    #[arg(long, value_enum, default_value = "bpe")]
    kind: Kind,
    /// How bpe cuts text into chunks that no merge crosses: gpt2, gpt4, or a regular expression whose matches are chunks, as
    /// is what lies between them [default: gpt2]
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<PreTokenizer>,
    /// A special token, which gets one of the last ids; the text is cut where it is in it; give it several times
    #[arg(long, value_name = "TEXT")]
    special: Vec<String>,
    /// A folder for tokenizer.json and tokenizer_config.json, or a file whose name ends in .json
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Byte-level BPE, as GPT-2 and GPT-4 have it
    Bpe,
    /// Unigram, with bytes for rare characters
    Unigram,
    /// BPE over characters, with bytes for rare ones, as sentencepiece has it
    Sentencepiece,
    /// A token a character
    Char,
}

pub fn run(options: &Options) -> Result<()> {
    ensure!(
        options.kind == Kind::Bpe || options.pattern.is_none(),
        "--pattern is for --kind bpe alone; leave it out"
    );
    ensure!(
        options.kind != Kind::Char || (options.vocab_size.is_none() && options.special.is_empty()),
        "--kind char has one token a character and no others; leave --vocab-size and --special out"
    );
    let file = place(&options.out);
    durable::ensure_free(&file)?;
    let corpus = Corpus::open(options.corpus.as_deref().unwrap_or(DEFAULT_CORPUS))?;
    for remark in &corpus.remarks {
        console::say(format_args!("note: corpus {}: {remark}", corpus.name));
    }
    let text = corpus.text(Split::All);
    let tokenizer = learn(options, text).with_context(|| format!("corpus {}", corpus.name))?;
    let tokens = tokenizer.encode_with(text, &SpecialChoice::ALLOW)?.len();
    let asked = options.vocab_size.unwrap_or(VOCAB_SIZE);
    if options.kind != Kind::Char && tokenizer.vocab_size() < asked {
        console::say(format_args!(
            "note: corpus {}: it has enough text for {} tokens, not for the {asked} asked for",
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

/// The file of a tokenizer that is written to `out`: that, or one in the folder of that name.
pub fn place(out: &Path) -> PathBuf {
    if is_file(out) {
        out.to_owned()
    } else {
        out.join(TOKENIZER)
    }
}

fn is_file(out: &Path) -> bool {
    out.extension().is_some_and(|extension| extension == "json")
}

/// Writes a tokenizer to a file, or to a folder with what `transformers` needs beside it.
///
/// # Errors
/// Something is there already; the disk cannot be written.
pub fn save(tokenizer: &Tokenizer, out: &Path) -> Result<()> {
    let file = place(out);
    let json = serde_json::to_vec(&tokenizer.to_json()?)?;
    let _made = durable::make_parents(&file)?;
    // The tokenizer gets its name last: where it is, its configuration is, too.
    durable::fill_file(&file, |making| {
        if !is_file(out) {
            let mut config = tokenizer.config_json(0);
            // How long a text may be is a model's matter.
            config.as_object_mut().map(|config| config.remove("model_max_length"));
            let place = out.join(TOKENIZER_CONFIG);
            durable::write_file(&place, &serde_json::to_vec_pretty(&config)?)?;
        }
        Ok(fs::write(making, &json)?)
    })
}

fn learn(options: &Options, text: &str) -> Result<Tokenizer> {
    let vocab_size = options.vocab_size.unwrap_or(VOCAB_SIZE);
    let specials: Vec<&str> = options.special.iter().map(String::as_str).collect();
    Ok(match options.kind {
        Kind::Bpe => {
            let pre_tokenizer = options.pattern.clone().unwrap_or(Pattern::Gpt2.into());
            let progress = Progress::new("training", vocab_size as u64, Unit::Of("merges"));
            Bpe::train(text, vocab_size, pre_tokenizer, &specials, |merges| {
                progress.set_position(merges as u64)
            })?
            .into()
        }
        Kind::Unigram => announced(|| train_unigram(text, vocab_size, &specials))?.into(),
        Kind::Sentencepiece => announced(|| train_sentencepiece(text, vocab_size, &specials))?.into(),
        Kind::Char => CharTokenizer::from_text(text).into(),
    })
}

/// Does work whose progress is not known, and says how long it has been going on.
fn announced<T>(work: impl FnOnce() -> T) -> T {
    let (done, waits) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let started = Instant::now();
            if waits.recv_timeout(SLOW) == Err(RecvTimeoutError::Timeout) {
                let spinner = Spinner::start();
                loop {
                    let seconds = started.elapsed().as_secs();
                    spinner.stage(&format!("training, in Hugging Face's library: {seconds} s so far"));
                    if waits.recv_timeout(AGAIN) != Err(RecvTimeoutError::Timeout) {
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

//! `mlx-gpt tokenizer train`.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::DEFAULT_CORPUS;
use crate::data::corpus::{Corpus, Split};
use crate::disk::durable;
use crate::terminal::console;
use crate::tokenizer::{Bpe, CharTokenizer, Pattern, Tokenizer, train_sentencepiece, train_unigram};

/// Training that takes longer than this shows its progress.
const SLOW: Duration = Duration::from_secs(2);

/// The vocabulary where none is asked for.
const VOCAB_SIZE: usize = 4096;

/// Learn a tokenizer from text
///
/// Writes a tokenizer.json, which Hugging Face's `tokenizers` loads and encodes identically with. `bpe` is trained by
/// this program's own byte-level BPE: any text can be encoded and comes back the same. `unigram` and `sentencepiece`
/// are trained by Hugging Face's library; a literal ▁ comes back as a space.
#[derive(Args)]
#[command(after_long_help = "\
Examples:

    mlx-gpt tokenizer train --vocab-size 4096 --out my-tok
    mlx-gpt tokenizer train --corpus notes.txt --vocab-size 1000 --special '<|endoftext|>' --out notes.json
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
    /// How bpe cuts text into chunks that no merge crosses [default: gpt2]
    #[arg(long, value_enum)]
    pattern: Option<Pattern>,
    /// A special token, which gets one of the last ids; give it several times
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
    let alone = options.out.extension().is_some_and(|extension| extension == "json");
    let file = if alone {
        options.out.clone()
    } else {
        options.out.join("tokenizer.json")
    };
    durable::ensure_free(&file)?;
    let corpus = Corpus::open(options.corpus.as_deref().unwrap_or(DEFAULT_CORPUS))?;
    for remark in &corpus.remarks {
        console::say(format_args!("note: corpus {}: {remark}", corpus.name));
    }
    let text = corpus.text(Split::All);
    let tokenizer = learn(options, text).with_context(|| format!("corpus {}", corpus.name))?;
    let tokens = tokenizer.encode(text)?.len();

    let json = serde_json::to_vec(&tokenizer.to_json()?)?;
    let _made = durable::make_parents(&file)?;
    // The tokenizer gets its name last: where it is, its configuration is, too.
    durable::fill_file(&file, |making| {
        if !alone {
            let mut config = tokenizer.config_json(0);
            // How long a text may be is a model's matter.
            config.as_object_mut().map(|config| config.remove("model_max_length"));
            let place = options.out.join("tokenizer_config.json");
            durable::write_file(&place, &serde_json::to_vec_pretty(&config)?)?;
        }
        Ok(fs::write(making, &json)?)
    })?;
    console::print(format_args!(
        "{}: {} tokens, {:.2} bytes per token of its corpus\n",
        file.display(),
        tokenizer.vocab_size(),
        text.len() as f64 / tokens as f64
    ))
}

fn learn(options: &Options, text: &str) -> Result<Tokenizer> {
    let vocab_size = options.vocab_size.unwrap_or(VOCAB_SIZE);
    let specials: Vec<&str> = options.special.iter().map(String::as_str).collect();
    Ok(match options.kind {
        Kind::Bpe => {
            let pattern = options.pattern.unwrap_or(Pattern::Gpt2);
            let mut progress = Progress::new(vocab_size);
            Bpe::train(text, vocab_size, pattern, &specials, |merges| progress.set(merges))?.into()
        }
        Kind::Unigram => announced(|| train_unigram(text, vocab_size, &specials))?.into(),
        Kind::Sentencepiece => announced(|| train_sentencepiece(text, vocab_size, &specials))?.into(),
        Kind::Char => CharTokenizer::from_text(text).into(),
    })
}

/// A bar that appears once it is worth while.
struct Progress {
    start: Instant,
    total: usize,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new(total: usize) -> Self {
        Self {
            start: Instant::now(),
            total,
            bar: None,
        }
    }

    fn set(&mut self, merges: usize) {
        if self.bar.is_none() && self.start.elapsed() > SLOW {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} merges {eta} left");
            self.bar = style
                .ok()
                .map(|style| ProgressBar::new(self.total as u64).with_style(style));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(merges as u64);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Does work whose progress is not known; says how long it has been going on once that is long.
fn announced<T>(work: impl FnOnce() -> T) -> T {
    let (done, waits) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if waits.recv_timeout(SLOW) == Err(RecvTimeoutError::Timeout) {
                let spinner = ProgressBar::new_spinner().with_message("training, in Hugging Face's library");
                spinner.enable_steady_tick(Duration::from_millis(200));
                let _ = waits.recv();
                spinner.finish_and_clear();
            }
        });
        let result = work();
        drop(done);
        result
    })
}

//! What a run learns from, whatever form it has: text, prepared token shards, or nanoGPT's token files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::to_string_pretty;

use super::corpus::{Corpus, Split};
use super::manifest::{Manifest, open_shards};
use super::prepare::TOKENIZER;
use super::tokens::{Shard, TokenWidth, Tokens};
use crate::disk::hash::{sha256, sha256_of_file};
use crate::tokenizer::{CharTokenizer, Tokenizer};

/// A corpus that was found and not tokenized yet.
pub enum Dataset {
    Text(Corpus),
    /// A folder made by `data prepare`.
    Prepared {
        folder: PathBuf,
        manifest: Manifest,
    },
    /// A folder with nanoGPT's `train.bin` and `val.bin`.
    NanoGpt {
        folder: PathBuf,
    },
}

/// Which text a run learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorpusRecord {
    pub sha256: String,
    /// The byte at which validation begins.
    pub cut: u64,
}

/// The tokens of a part of a dataset.
pub struct Part {
    pub tokens: Tokens,
    /// UTF-8 bytes of the text that they stand for, where that is known.
    pub bytes: Option<u64>,
}

impl Dataset {
    /// The dataset of that name: [`DEFAULT_CORPUS`](crate::config::DEFAULT_CORPUS), a text file, a folder of them, or
    /// a folder of tokens.
    ///
    /// # Errors
    /// Nothing there, text that is not UTF-8, a damaged manifest.
    pub fn open(name: &str) -> Result<Self> {
        let folder = Path::new(name);
        if Manifest::is_in(folder) {
            let manifest = Manifest::read(folder)?;
            return Ok(Self::Prepared {
                folder: folder.to_owned(),
                manifest,
            });
        }
        if nano_gpt_files(folder).iter().all(|file| file.is_file()) {
            return Ok(Self::NanoGpt {
                folder: folder.to_owned(),
            });
        }
        Ok(Self::Text(Corpus::open(name)?))
    }

    /// What it is called in the names of runs.
    pub fn name(&self) -> String {
        match self {
            Self::Text(corpus) => corpus.name.clone(),
            Self::Prepared { folder, .. } | Self::NanoGpt { folder } => folder
                .file_name()
                .unwrap_or(folder.as_os_str())
                .to_string_lossy()
                .into_owned(),
        }
    }

    /// What was changed in reading, for the user to know.
    pub fn remarks(&self) -> &[String] {
        match self {
            Self::Text(corpus) => &corpus.remarks,
            _ => &[],
        }
    }

    /// The tokenizer called `name`, or that of the tokens. Characters are those of the whole text.
    ///
    /// # Errors
    /// There is no such tokenizer, or the tokens were made by another one.
    pub fn tokenizer(&self, name: &str) -> Result<Tokenizer> {
        let tokenizer = Tokenizer::open(name, || match self {
            Self::Text(corpus) => Ok(CharTokenizer::from_text(corpus.text(Split::All))),
            Self::Prepared { folder, .. } | Self::NanoGpt { folder } => bail!(
                "{} holds tokens, not characters; say which tokenizer made them, such as --tokenizer gpt2",
                folder.display()
            ),
        })?;
        self.check(&tokenizer)?;
        Ok(tokenizer)
    }

    /// The tokenizer that a prepared folder brings along, as a name for [`tokenizer`](Self::tokenizer).
    pub fn own_tokenizer(&self) -> Option<String> {
        match self {
            Self::Text(_) => None,
            Self::Prepared { folder, .. } => Some(folder.join(TOKENIZER).to_string_lossy().into_owned()),
            Self::NanoGpt { .. } => Some("gpt2".into()), // nanoGPT's own
        }
    }

    fn check(&self, tokenizer: &Tokenizer) -> Result<()> {
        if let Self::Prepared { folder, manifest } = self {
            let same = sha256(to_string_pretty(&tokenizer.to_json()?)?) == manifest.tokenizer_sha256;
            ensure!(
                same,
                "{} was prepared with another tokenizer, of {} tokens against {}; leave --tokenizer out, or prepare the text again",
                folder.display(),
                manifest.vocab_size,
                tokenizer.vocab_size()
            );
        }
        Ok(())
    }

    /// The tokens of a part.
    ///
    /// # Errors
    /// Text that the tokenizer cannot write, tokens that another tokenizer made, a damaged shard.
    pub fn part(&self, tokenizer: &Tokenizer, split: Split) -> Result<Part> {
        self.check(tokenizer)?;
        match self {
            Self::Text(corpus) => {
                let text = corpus.text(split);
                let ids = tokenizer
                    .encode(text)
                    .with_context(|| format!("corpus {}", corpus.name))?;
                Ok(Part {
                    tokens: Tokens::Memory(ids),
                    bytes: Some(text.len() as u64),
                })
            }
            Self::Prepared { folder, manifest } => {
                let records: Vec<_> = match split {
                    Split::Train => manifest.train.iter().collect(),
                    Split::Val => manifest.val.iter().collect(),
                    Split::All => manifest.shards().collect(),
                };
                let bytes = records.iter().map(|record| record.text_bytes).sum();
                Ok(Part {
                    tokens: open_shards(folder, &records, manifest.width)?,
                    bytes: Some(bytes),
                })
            }
            Self::NanoGpt { folder } => {
                let [train, val] = nano_gpt_files(folder);
                let files = match split {
                    Split::Train => vec![train],
                    Split::Val => vec![val],
                    Split::All => vec![train, val],
                };
                let shards = files
                    .iter()
                    .map(|file| Shard::open(file, TokenWidth::U16))
                    .collect::<Result<_>>()?;
                Ok(Part {
                    tokens: Tokens::Shards(shards),
                    bytes: None,
                })
            }
        }
    }

    /// What identifies the text.
    ///
    /// # Errors
    /// A token file cannot be read.
    pub fn record(&self) -> Result<CorpusRecord> {
        Ok(match self {
            Self::Text(corpus) => CorpusRecord {
                sha256: corpus.sha256(),
                cut: corpus.cut() as u64,
            },
            Self::Prepared { manifest, .. } => CorpusRecord {
                sha256: manifest.corpus.sha256.clone(),
                cut: manifest.corpus.cut,
            },
            Self::NanoGpt { folder } => {
                let [train, val] = nano_gpt_files(folder);
                CorpusRecord {
                    sha256: sha256(sha256_of_file(&train)? + &sha256_of_file(&val)?),
                    cut: fs::metadata(&train)?.len(),
                }
            }
        })
    }
}

fn nano_gpt_files(folder: &Path) -> [PathBuf; 2] {
    ["train.bin", "val.bin"].map(|file| folder.join(file))
}

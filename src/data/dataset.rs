//! What a run learns from, whatever form it has: text, prepared token shards, or token files of other programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::corpus::{Corpus, Split};
use super::manifest::{Manifest, open_shards};
use super::token_folder::TokenFolder;
use super::tokens::Tokens;
use crate::config::SpecialTokens;
use crate::tokenizer::folder::TOKENIZER;
use crate::tokenizer::{CharTokenizer, Tokenizer};

/// A corpus that was found and not tokenized yet.
pub enum Dataset {
    Text(Corpus),
    /// A folder made by `data prepare`.
    Prepared {
        folder: PathBuf,
        manifest: Manifest,
    },
    /// A folder of token files that another program made, such as nanoGPT.
    Tokens(TokenFolder),
}

/// Which text a run learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorpusRecord {
    pub sha256: String,
    /// The byte at which validation begins.
    pub cut: u64,
}

/// The tokens of a part of a dataset.
pub struct SplitTokens {
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
        if let Some(found) = TokenFolder::find(folder)? {
            return Ok(Self::Tokens(found));
        }
        ensure!(
            !folder.is_file() || !folder.extension().is_some_and(|end| end == "bin" || end == "npy"),
            "{name} is a file of tokens; give its folder, with files to train on and files to validate on"
        );
        Ok(Self::Text(Corpus::open(name)?))
    }

    /// What it is called in the names of runs.
    pub fn name(&self) -> String {
        let folder = match self {
            Self::Text(corpus) => return corpus.name.clone(),
            Self::Prepared { folder, .. } | Self::Tokens(TokenFolder { folder, .. }) => folder,
        };
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// What was changed in reading, for the user to know.
    pub fn remarks(&self) -> &[String] {
        match self {
            Self::Text(corpus) => &corpus.remarks,
            Self::Prepared { .. } => &[],
            Self::Tokens(folder) => folder.remarks(),
        }
    }

    /// Whether it has a training and a validation part of its own, whatever model it is measured with.
    pub fn has_parts(&self) -> bool {
        !matches!(self, Self::Text(_))
    }

    /// The tokenizer called `name`. Characters are those of the whole text.
    ///
    /// # Errors
    /// There is no such tokenizer, or the tokens were made by another one.
    pub fn tokenizer(&self, name: &str) -> Result<Tokenizer> {
        let tokenizer = Tokenizer::open(name, || match self {
            Self::Text(corpus) => Ok(CharTokenizer::from_text(corpus.text(Split::All))),
            Self::Prepared { folder, .. } => bail!(
                "{} holds tokens, not characters; leave --tokenizer out, as the tokenizer is there too",
                folder.display()
            ),
            Self::Tokens(folder) => folder.characters(),
        })?;
        self.check(&tokenizer)?;
        Ok(tokenizer)
    }

    /// The tokenizer that made the tokens, as a name for [`tokenizer`](Self::tokenizer).
    pub fn own_tokenizer(&self) -> Option<String> {
        match self {
            Self::Text(_) => None,
            Self::Prepared { folder, .. } => Some(folder.join(TOKENIZER).to_string_lossy().into_owned()),
            Self::Tokens(folder) => Some(folder.own_tokenizer().into()),
        }
    }

    fn check(&self, tokenizer: &Tokenizer) -> Result<()> {
        if let Self::Tokens(folder) = self {
            folder.check(tokenizer)?;
        }
        if let Self::Prepared { folder, manifest } = self
            && let Some(difference) = manifest.difference_of_tokenizer(tokenizer, folder)?
        {
            bail!(
                "{} was prepared with another tokenizer: {difference}; leave --tokenizer out, or prepare the text again",
                folder.display()
            );
        }
        Ok(())
    }

    /// What is to be known of special tokens whose text is in the corpus.
    pub fn special_token_note(&self, tokenizer: &Tokenizer, special: SpecialTokens) -> Option<String> {
        match self {
            Self::Text(corpus) => tokenizer.special_token_note(corpus.text(Split::All), special),
            _ => None,
        }
    }

    /// The tokens of a part; special tokens in it are text like any other.
    ///
    /// # Errors
    /// As [`part_with`](Self::part_with).
    pub fn part(&self, tokenizer: &Tokenizer, split: Split) -> Result<SplitTokens> {
        self.part_with(tokenizer, split, SpecialTokens::Text)
    }

    /// The tokens of a part, of a text with special tokens as `special` has them.
    ///
    /// # Errors
    /// Text that the tokenizer cannot write, or has a special token where there must be none; tokens that another
    /// tokenizer made, or with special tokens otherwise; a damaged shard.
    pub fn part_with(&self, tokenizer: &Tokenizer, split: Split, special: SpecialTokens) -> Result<SplitTokens> {
        self.check(tokenizer)?;
        match self {
            Self::Text(corpus) => {
                let text = corpus.text(split);
                let ids = tokenizer
                    .encode_with(text, &special.into())
                    .with_context(|| format!("corpus {}", corpus.name))?;
                Ok(SplitTokens {
                    tokens: Tokens::Memory(ids),
                    bytes: Some(text.len() as u64),
                })
            }
            Self::Prepared { folder, manifest } => {
                ensure!(
                    special != SpecialTokens::Allow || manifest.special == special,
                    "{} was prepared with special tokens as text; leave --special out, or prepare the text again with --special allow",
                    folder.display()
                );
                let records: Vec<_> = match split {
                    Split::Train => manifest.train.iter().collect(),
                    Split::Val => manifest.val.iter().collect(),
                    Split::All => manifest.shards().collect(),
                };
                let bytes = records.iter().map(|record| record.text_bytes).sum();
                Ok(SplitTokens {
                    tokens: open_shards(folder, &records, manifest.width, manifest.vocab_size)?,
                    bytes: Some(bytes),
                })
            }
            Self::Tokens(folder) => Ok(SplitTokens {
                tokens: folder.part(tokenizer, split)?,
                bytes: None,
            }),
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
            Self::Tokens(folder) => folder.record()?,
        })
    }
}

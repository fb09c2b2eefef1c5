//! A dataset in any form: text, prepared token shards, token files of other programs, a task, or conversations.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::conversations::{ConversationRows, Conversations};
use super::corpus::{Corpus, Split};
use super::manifest::{Manifest, open_shards};
use super::preferences::PreferenceData;
use super::source::Source;
use super::tasks::{Part, TaskData, TaskRows};
use super::token_folder::TokenFolder;
use super::tokens::Tokens;
use crate::config::{SpecialTokens, TrainConfig};
use crate::disk::hash::sha256;
use crate::tokenizer::chat::ChatTemplate;
use crate::tokenizer::folder::TOKENIZER;
use crate::tokenizer::{CharTokenizer, Tokenizer};

/// A corpus, before tokenization.
pub enum Dataset {
    /// Text.
    Text(Corpus),
    /// A folder written by `data prepare`.
    Prepared {
        /// Its path.
        folder: PathBuf,
        /// Its contents: tokenizer, splits and shards.
        manifest: Manifest,
    },
    /// A folder of token files of another program, such as nanoGPT.
    Tokens(TokenFolder),
    /// Problems that are made on the fly.
    Task(TaskData),
    /// Preference pairs.
    Preferences(PreferenceData),
    /// Conversations.
    Chat(Conversations),
}

/// Identifies the text that a run was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorpusRecord {
    /// SHA-256 of the normalised text; for token files of other programs, of their hashes; for a task, of its description; for
    /// conversations, of their file.
    pub sha256: String,
    /// The byte at which the validation split begins; for token files of other programs, the size of the training files.
    #[serde(rename = "cut")]
    pub split_offset: u64,
}

/// The tokens of a split.
pub struct SplitTokens {
    /// The tokens.
    pub tokens: Tokens,
    /// UTF-8 bytes of the text that they encode, if known.
    pub bytes: Option<u64>,
}

impl Dataset {
    /// What a configuration trains on: its task, its conversations, its preference pairs, or its corpus.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`PreferenceData::read`], or a task with options that are not valid.
    pub fn of_config(config: &TrainConfig) -> Result<Self> {
        match (TaskData::of_config(config)?, &config.chat, &config.preferences) {
            (Some(task), _, _) => Ok(Self::Task(task)),
            (None, Some(chat), _) => Ok(Self::Chat(Conversations::read(chat)?)),
            (None, None, Some(file)) => Ok(Self::Preferences(PreferenceData::read(Path::new(file))?)),
            (None, None, None) => Self::open(&config.corpus),
        }
    }

    /// The dataset of that name: [`DEFAULT_CORPUS`](crate::config::DEFAULT_CORPUS), a text file, a folder of them, or
    /// a folder of tokens.
    ///
    /// # Errors
    /// The path does not exist, the text is not UTF-8, or the manifest is damaged.
    pub fn open(name: &str) -> Result<Self> {
        let folder = Path::new(name);
        if Manifest::exists_in(folder) {
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
            "{name} is a token file; give its folder, which must contain training and validation files"
        );
        Ok(Self::Text(Corpus::open(name)?))
    }

    /// Its name in the names of runs.
    pub fn name(&self) -> String {
        let folder = match self {
            Self::Text(corpus) => return corpus.name.clone(),
            Self::Task(task) => return task.name().into(),
            Self::Preferences(pairs) => {
                let stem = Path::new(&pairs.name).file_stem();
                return stem.unwrap_or_default().to_string_lossy().into_owned();
            }
            Self::Chat(conversations) => return conversations.name(),
            Self::Prepared { folder, .. } | Self::Tokens(TokenFolder { folder, .. }) => folder,
        };
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// Notes for the user on how the data was read.
    pub fn notes(&self) -> &[String] {
        match self {
            Self::Text(corpus) => &corpus.notes,
            Self::Prepared { .. } | Self::Task(_) | Self::Preferences(_) | Self::Chat(_) => &[],
            Self::Tokens(folder) => folder.notes(),
        }
    }

    /// Whether it has fixed training and validation splits, whatever model is evaluated on it.
    pub fn has_fixed_splits(&self) -> bool {
        !matches!(self, Self::Text(_))
    }

    /// The tokenizer called `name`; `char` has the characters of the whole text.
    ///
    /// # Errors
    /// There is no such tokenizer, or the dataset was tokenized with another one.
    pub fn tokenizer(&self, name: &str) -> Result<Tokenizer> {
        if let Self::Task(task) = self {
            ensure!(
                name == "char",
                "task {} has its own characters as tokens; omit --tokenizer {name}",
                task.name()
            );
        }
        let tokenizer = Tokenizer::open(name, || match self {
            Self::Text(corpus) => Ok(CharTokenizer::from_text(corpus.text(Split::All))),
            Self::Prepared { folder, .. } => bail!(
                "{} contains tokens, not text; omit --tokenizer, since the folder has its own",
                folder.display()
            ),
            Self::Tokens(folder) => folder.characters(),
            Self::Task(task) => Ok(task.tokenizer()),
            Self::Preferences(pairs) => bail!("{} has no tokenizer of its own", pairs.name),
            Self::Chat(conversations) => Ok(CharTokenizer::from_text(&conversations.characters())),
        })?;
        self.check(&tokenizer)?;
        Ok(tokenizer)
    }

    /// The tokenizer of the tokens, as a name for [`tokenizer`](Self::tokenizer); `None` for text and conversations, which any can
    /// encode, and for tasks, whose default it is.
    pub fn own_tokenizer(&self) -> Option<String> {
        match self {
            Self::Text(_) | Self::Task(_) | Self::Preferences(_) | Self::Chat(_) => None,
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
                "{} was prepared with another tokenizer: {difference}; omit --tokenizer, or prepare the text again",
                folder.display()
            );
        }
        Ok(())
    }

    /// A note on special tokens whose text occurs in the corpus, if there are any.
    pub fn special_token_note(&self, tokenizer: &Tokenizer, special: SpecialTokens) -> Option<String> {
        match self {
            Self::Text(corpus) => tokenizer.special_token_note(corpus.text(Split::All), special),
            _ => None,
        }
    }

    /// The tokens of a split; special tokens in its text are encoded as ordinary text.
    ///
    /// # Errors
    /// As [`tokens_with`](Self::tokens_with).
    pub fn tokens(&self, tokenizer: &Tokenizer, split: Split) -> Result<SplitTokens> {
        self.tokens_with(tokenizer, split, SpecialTokens::Text)
    }

    /// A split as a source of the training rows of `config`. The validation split of a task has its held-out problems;
    /// conversations are written by the model's `template`.
    ///
    /// # Errors
    /// As [`tokens_with`](Self::tokens_with); a tokenizer without the characters of the task; conversations that the template
    /// refuses, or without one.
    pub fn source(
        &self,
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
        split: Split,
        config: &TrainConfig,
    ) -> Result<Source> {
        Ok(match self {
            Self::Task(task) => {
                let part = if split == Split::Val {
                    Part::HeldOut
                } else {
                    Part::Train
                };
                Source::Task(Box::new(TaskRows::new(task, part, tokenizer)?))
            }
            Self::Chat(conversations) => {
                let template = template.context("the model has no chat template to write conversations with")?;
                let rows = ConversationRows::new(conversations, split, template, tokenizer, config.context)?;
                Source::Chat(rows)
            }
            _ => Source::Text(self.tokens_with(tokenizer, split, config.special)?.tokens),
        })
    }

    /// The task whose problems it has, if any.
    pub fn task(&self) -> Option<&TaskData> {
        match self {
            Self::Task(task) => Some(task),
            _ => None,
        }
    }

    /// The tokens of a split, with special tokens in its text encoded according to `special`.
    ///
    /// # Errors
    /// Text that the tokenizer cannot encode, or that contains a disallowed special token; tokens of another tokenizer;
    /// [`SpecialTokens::Allow`] for a folder that was prepared with special tokens as text; a damaged shard.
    pub fn tokens_with(&self, tokenizer: &Tokenizer, split: Split, special: SpecialTokens) -> Result<SplitTokens> {
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
                    "{} was prepared with special tokens as text; omit --special, or prepare the text again with --special allow",
                    folder.display()
                );
                let records: Vec<_> = match split {
                    Split::Train => manifest.train.iter().collect(),
                    Split::Val => manifest.val.iter().collect(),
                    Split::All => manifest.shards().collect(),
                };
                let bytes = records.iter().map(|record| record.text_bytes).sum();
                Ok(SplitTokens {
                    tokens: open_shards(folder, &records, manifest.dtype, manifest.vocab_size)?,
                    bytes: Some(bytes),
                })
            }
            Self::Tokens(folder) => Ok(SplitTokens {
                tokens: folder.tokens(tokenizer, split)?,
                bytes: None,
            }),
            Self::Task(task) => bail!(
                "task {} makes problems and has no text; give a text with --corpus",
                task.name()
            ),
            Self::Preferences(pairs) => bail!("{} has preference pairs and no text", pairs.name),
            Self::Chat(conversations) => bail!(
                "{} has conversations and no text; give a text with --corpus",
                conversations.path
            ),
        }
    }

    /// Identifies the text.
    ///
    /// # Errors
    /// A token file cannot be read.
    pub fn record(&self) -> Result<CorpusRecord> {
        Ok(match self {
            Self::Text(corpus) => CorpusRecord {
                sha256: corpus.sha256(),
                split_offset: corpus.split_offset() as u64,
            },
            Self::Prepared { manifest, .. } => CorpusRecord {
                sha256: manifest.corpus.sha256.clone(),
                split_offset: manifest.corpus.split_offset,
            },
            Self::Tokens(folder) => folder.record()?,
            Self::Task(task) => CorpusRecord {
                sha256: sha256(task.identity()),
                split_offset: 0,
            },
            Self::Preferences(pairs) => CorpusRecord {
                sha256: pairs.sha256.clone(),
                split_offset: 0,
            },
            Self::Chat(conversations) => CorpusRecord {
                sha256: conversations.sha256().into(),
                split_offset: 0,
            },
        })
    }
}

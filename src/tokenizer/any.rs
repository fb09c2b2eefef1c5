//! Every kind of tokenizer behind one type.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::hf_tokenizer::HfTokenizer;
use super::special::ordinary_text_note;
use super::{
    AddedToken, Bpe, CharTokenizer, END_OF_TEXT, PreTokenizer, SpecialTokenPolicy, difference, folder, hugging_face,
    ids, published, sentencepiece, tiktoken,
};
use crate::config::SpecialTokens;
use crate::disk::files;

/// A tokenizer of any kind.
///
/// ```
/// use mlx_gpt::tokenizer::{SpecialTokenPolicy, Tokenizer};
///
/// let tokenizer = Tokenizer::gpt2()?;
/// assert_eq!(tokenizer.encode("hello world")?, [31373, 995]);
/// assert_eq!(tokenizer.decode(&[31373, 995])?, "hello world");
/// assert_eq!(tokenizer.encode_with("<|endoftext|>", &SpecialTokenPolicy::ALLOW)?, [50256]);
/// assert!(tokenizer.encode_with("<|endoftext|>", &SpecialTokenPolicy::RAISE).is_err());
/// # anyhow::Ok(())
/// ```
#[derive(Clone, Debug)]
pub enum Tokenizer {
    /// A token for each character.
    Char(CharTokenizer),
    /// Byte-level byte-pair encoding, by this crate's own encoder.
    Bpe(Box<Bpe>),
    /// Any other `tokenizer.json`, by Hugging Face's library.
    HuggingFace(Box<HfTokenizer>),
}

impl From<CharTokenizer> for Tokenizer {
    fn from(tokenizer: CharTokenizer) -> Self {
        Self::Char(tokenizer)
    }
}

impl From<Bpe> for Tokenizer {
    fn from(tokenizer: Bpe) -> Self {
        Self::Bpe(Box::new(tokenizer))
    }
}

impl From<HfTokenizer> for Tokenizer {
    fn from(tokenizer: HfTokenizer) -> Self {
        Self::HuggingFace(Box::new(tokenizer))
    }
}

impl Tokenizer {
    /// GPT-2's.
    ///
    /// # Errors
    /// As [`published::gpt2`].
    pub fn gpt2() -> Result<Self> {
        Ok(published::gpt2()?.into())
    }

    /// GPT-4's.
    ///
    /// # Errors
    /// As [`published::cl100k`].
    pub fn cl100k() -> Result<Self> {
        Ok(published::cl100k()?.into())
    }

    /// The tokenizer that `--tokenizer` names: `char`, which is built from a text; `gpt2`; `cl100k`, or
    /// tiktoken's name of it, `cl100k_base`; or a path as for [`load`](Self::load).
    ///
    /// # Errors
    /// As `load`, or those of `char`.
    pub fn open(name: &str, char: impl FnOnce() -> Result<CharTokenizer>) -> Result<Self> {
        match name {
            "char" => Ok(char()?.into()),
            "gpt2" => Self::gpt2(),
            "cl100k" | "cl100k_base" => Self::cl100k(),
            path => Self::load(Path::new(path)),
        }
    }

    /// Loads a tokenizer from a `tokenizer.json`, a sentencepiece `.model` or a `.tiktoken` file, or from a folder that
    /// holds one, as `transformers` saves it: see `folder.rs`. Character tokenizers and byte-level BPE are implemented
    /// here; all others run in Hugging Face's `tokenizers`.
    ///
    /// # Errors
    /// A missing file, another format, or a broken file.
    pub fn load(path: &Path) -> Result<Self> {
        if path.is_dir() {
            folder::read(path)
        } else {
            Self::load_file(path)
        }
    }

    /// Whether a folder has a tokenizer that [`load`](Self::load) reads.
    pub fn is_in(folder: &Path) -> bool {
        folder::has_tokenizer(folder)
    }

    /// A tokenizer in one file; the format is told by its contents.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(super) fn load_file(file: &Path) -> Result<Self> {
        let bytes = read(file)?;
        if sentencepiece::is_sentencepiece_model(&bytes) {
            let json = sentencepiece::to_tokenizer_json(&bytes)
                .with_context(|| format!("tokenizer {} cannot be used", file.display()))?;
            return Self::from_json(json, file);
        }
        if tiktoken::is_tiktoken(&bytes) {
            return Ok(tiktoken::read(&bytes, file)?.into());
        }
        Self::from_json(parse(&bytes, file)?, file)
    }

    /// A `.tiktoken` file, with the split pattern and the special tokens, which such files lack.
    ///
    /// # Errors
    /// A missing file, or as [`Bpe::new`].
    pub fn load_tiktoken(
        file: &Path,
        pre_tokenizer: impl Into<PreTokenizer>,
        specials: Vec<AddedToken>,
    ) -> Result<Self> {
        Ok(tiktoken::read_with(&read(file)?, pre_tokenizer.into(), specials, file)?.into())
    }

    /// The contents of a `tokenizer.json`.
    ///
    /// # Errors
    /// It cannot be read, or is not JSON.
    pub(super) fn json_of(file: &Path) -> Result<Value> {
        parse(&read(file)?, file)
    }

    /// The tokenizer that the contents of a `tokenizer.json` describe, as [`load`](Self::load); errors name `file`.
    ///
    /// # Errors
    /// Not a tokenizer, or one that is broken.
    pub fn from_json(mut json: Value, file: &Path) -> Result<Self> {
        let shown = file.display();
        ensure_has_model(&json, file)?;
        ids::check(&json).with_context(|| format!("tokenizer {shown} is broken"))?;
        if CharTokenizer::describes(&json) {
            return Ok(CharTokenizer::from_json(&json, file)?.into());
        }
        let tokens = json["model"]["vocab"]
            .as_object()
            .map_or(usize::MAX, serde_json::Map::len);
        ensure!(
            tokens >= 256 || json["pre_tokenizer"]["type"] != "ByteLevel",
            "tokenizer {shown} is byte-level but has only {tokens} tokens, fewer than the 256 bytes; train it again with a larger vocabulary"
        );
        turn_dropout_off(&mut json["model"], file);
        if let Some(bpe) = hugging_face::from_json(&json) {
            return Ok(bpe.into());
        }
        let library = HfTokenizer::from_json(json)
            .with_context(|| format!("tokenizer {shown} is not a tokenizer.json that can be used"))?;
        Ok(library.into())
    }

    /// How this tokenizer's ids differ from another's, in words about this one; `None` if they don't.
    ///
    /// # Errors
    /// As [`to_json`](Self::to_json).
    pub fn difference(&self, other: &Self) -> Result<Option<String>> {
        difference::between(self, other)
    }

    /// One more than the highest id: what a model's vocabulary must be.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Char(tokenizer) => tokenizer.vocab_size(),
            Self::Bpe(tokenizer) => tokenizer.vocab_size(),
            Self::HuggingFace(tokenizer) => tokenizer.vocab_size(),
        }
    }

    /// The ids of the special tokens by their text.
    pub fn special_tokens(&self) -> &BTreeMap<String, u32> {
        match self {
            Self::Char(tokenizer) => tokenizer.added_tokens().specials(),
            Self::Bpe(tokenizer) => tokenizer.special_tokens(),
            Self::HuggingFace(tokenizer) => tokenizer.special_tokens(),
        }
    }

    /// The same tokenizer with further special tokens, whose ids follow its highest one in the order given.
    ///
    /// # Errors
    /// A token that is empty, or is one of its tokens already.
    pub fn with_special_tokens(&self, tokens: &[&str]) -> Result<Self> {
        let first = self.vocab_size() as u32;
        let new = tokens
            .iter()
            .zip(first..)
            .map(|(token, id)| AddedToken::special(token, id));
        match self {
            Self::Char(characters) => Ok(characters.with_special_tokens(tokens)?.into()),
            Self::Bpe(bpe) => {
                let ordinary = bpe.ordinary_tokens().map(|(id, token)| (token.into(), id));
                let added = bpe.added_tokens().tokens().iter().cloned().chain(new);
                let extended = Bpe::new(ordinary.collect(), bpe.pre_tokenizer().clone(), added.collect())?;
                Ok(extended.with_prefix_space(bpe.add_prefix_space()).into())
            }
            Self::HuggingFace(library) => {
                for token in tokens {
                    let known = library.special_tokens().contains_key(*token);
                    ensure!(
                        !token.is_empty() && !known,
                        "special token {token} occurs twice, or is empty"
                    );
                }
                let mut json = library.to_json().clone();
                match json["added_tokens"].as_array_mut() {
                    Some(added) => added.extend(new.map(|token| token.to_json())),
                    None => json["added_tokens"] = new.map(|token| token.to_json()).collect(),
                }
                Ok(HfTokenizer::from_json(json)?.into())
            }
        }
    }

    /// The end-of-text token: `<|endoftext|>`, or else `</s>`, if there is one.
    pub fn eos_token(&self) -> Option<u32> {
        let specials = self.special_tokens();
        [END_OF_TEXT, "</s>"]
            .iter()
            .find_map(|&token| specials.get(token).copied())
    }

    /// The default prompt: the end-of-text token; without one, a new line; or else the first token.
    pub fn default_prompt(&self) -> Vec<u32> {
        if let Self::Char(tokenizer) = self {
            return tokenizer.default_prompt();
        }
        match (self.eos_token(), self.encode("\n")) {
            (Some(id), _) => vec![id],
            (None, Ok(ids)) if !ids.is_empty() => ids,
            _ => vec![0],
        }
    }

    /// The ids of `text`; special tokens in it are ordinary text.
    ///
    /// # Errors
    /// A character that the tokenizer lacks.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, &SpecialTokenPolicy::TEXT)
    }

    /// The ids of `text`, with special tokens handled as `policy` says.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), or a disallowed special token in the text.
    pub fn encode_with(&self, text: &str, policy: &SpecialTokenPolicy) -> Result<Vec<u32>> {
        match self {
            Self::Char(tokenizer) => tokenizer.encode_with(text, policy),
            Self::Bpe(tokenizer) => tokenizer.encode_with(text, policy),
            Self::HuggingFace(tokenizer) => tokenizer.encode_with(text, policy),
        }
    }

    /// The special tokens that occur in `text`, with their counts.
    pub fn special_tokens_in(&self, text: &str) -> BTreeMap<String, usize> {
        match self {
            Self::Char(tokenizer) => tokenizer.added_tokens().count_specials(text),
            Self::Bpe(tokenizer) => tokenizer.added_tokens().count_specials(text),
            Self::HuggingFace(tokenizer) => tokenizer.added_tokens().count_specials(text),
        }
    }

    /// A note on special tokens in `text` that `special` encodes as ordinary text.
    pub fn special_token_note(&self, text: &str, special: SpecialTokens) -> Option<String> {
        match special {
            SpecialTokens::Text => ordinary_text_note(&self.special_tokens_in(text)),
            SpecialTokens::Allow | SpecialTokens::Raise => None,
        }
    }

    /// The text of `ids`; bytes that are not UTF-8, such as part of a character, become U+FFFD.
    ///
    /// # Errors
    /// An unknown id.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        match self {
            Self::Char(tokenizer) => tokenizer.decode(ids),
            Self::Bpe(tokenizer) => Ok(match String::from_utf8(tokenizer.decode_bytes(ids)?) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            }),
            Self::HuggingFace(tokenizer) => tokenizer.decode(ids),
        }
    }

    /// The bytes of `ids`, which need not be UTF-8.
    ///
    /// # Errors
    /// An unknown id.
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>> {
        match self {
            Self::Bpe(tokenizer) => tokenizer.decode_bytes(ids),
            _ => Ok(self.decode(ids)?.into_bytes()),
        }
    }

    /// The bytes of a token by itself; `None` for an unknown id.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        match self {
            Self::Char(tokenizer) => tokenizer.decode(&[id]).ok().map(String::into_bytes),
            Self::Bpe(tokenizer) => tokenizer.token_bytes(id).map(<[u8]>::to_vec),
            Self::HuggingFace(tokenizer) => tokenizer.token_bytes(id),
        }
    }

    /// The tokenizer as `tokenizer.json`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Char(tokenizer) => tokenizer.to_json(),
            Self::Bpe(tokenizer) => hugging_face::to_json(tokenizer),
            Self::HuggingFace(tokenizer) => tokenizer.to_json().clone(),
        }
    }

    /// The `tokenizer_config.json` that `transformers` needs beside `tokenizer.json`, for a model of that context.
    pub fn config_json(&self, context: usize) -> Value {
        let specials: Vec<&str> = self.special_tokens().keys().map(String::as_str).collect();
        hugging_face::config_json(&specials, context)
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    files::read(file).with_context(|| {
        format!(
            "tokenizer {} cannot be read; give char, gpt2, cl100k, or a tokenizer.json, .model or .tiktoken file",
            file.display()
        )
    })
}

/// # Errors
/// JSON of another kind than `tokenizer.json`.
pub(super) fn ensure_has_model(json: &Value, file: &Path) -> Result<()> {
    ensure!(
        json["model"].is_object(),
        "tokenizer {} is JSON but not a tokenizer.json: it has no model; make one with: mlx-gpt tokenizer train",
        file.display()
    );
    Ok(())
}

fn parse(bytes: &[u8], file: &Path) -> Result<Value> {
    serde_json::from_slice(bytes).with_context(|| {
        format!(
            "tokenizer {} is not valid JSON; give a tokenizer.json, a sentencepiece .model or a .tiktoken",
            file.display()
        )
    })
}

/// Disables BPE dropout, which skips merges at random during training: evaluation and resuming need the same ids each time.
fn turn_dropout_off(model: &mut Value, file: &Path) {
    let Some(dropout) = model.get_mut("dropout").map(std::mem::take) else {
        return;
    };
    if dropout.as_f64().is_some_and(|dropout| dropout > 0.0) {
        log::info!(
            "tokenizer {}: BPE dropout {dropout} is disabled, so that encoding is deterministic",
            file.display()
        );
    }
}

//! Text from tokens that come one by one: a character whose bytes are spread over several tokens is held back until it
//! is whole.

use anyhow::{Context, Result};

use super::Tokenizer;

/// Decodes a stream of tokens. What [`push`](Self::push) and [`finish`](Self::finish) give is, joined, what
/// [`Tokenizer::decode`] gives for all tokens at once. The one exception is bytes that are not UTF-8 in a tokenizer with
/// byte fallback, which Hugging Face's library decodes a run at a time: a byte that makes one invalid cannot take back what
/// was given before it.
///
/// ```
/// use mlx_gpt::tokenizer::{StreamDecoder, Tokenizer};
///
/// let tokenizer = Tokenizer::gpt2()?;
/// let mut decoder = StreamDecoder::new(&tokenizer);
/// let ids = tokenizer.encode("a 😀!")?; // the face is two tokens, the first of them with the space
/// let mut parts = Vec::new();
/// for id in ids {
///     parts.push(decoder.push(id)?);
/// }
/// assert_eq!(parts, ["a", " ", "😀", "!"]);
/// assert_eq!(decoder.finish()?, "");
/// # anyhow::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    held: Held,
}

/// What has come and not been given yet.
#[derive(Clone, Debug)]
enum Held {
    /// The bytes of a character that is not whole.
    Bytes(Vec<u8>),
    /// How a token reads can depend on those before it, so the tokens of the last text that was given are kept: the
    /// first `read` of `ids`, which read `given`.
    Tokens { ids: Vec<u32>, read: usize, given: String },
}

impl<'a> StreamDecoder<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let held = match tokenizer {
            Tokenizer::Char(_) | Tokenizer::Bpe(_) => Held::Bytes(Vec::new()),
            Tokenizer::Library(_) => Held::Tokens {
                ids: Vec::new(),
                read: 0,
                given: String::new(),
            },
        };
        Self { tokenizer, held }
    }

    /// The text that is whole once `id` has come, which may be none.
    ///
    /// # Errors
    /// An id that no token has.
    pub fn push(&mut self, id: u32) -> Result<String> {
        match &mut self.held {
            Held::Bytes(bytes) => {
                bytes.extend(self.tokenizer.token_bytes(id).with_context(|| {
                    format!(
                        "token id {id} is out of range; the tokenizer has {} tokens",
                        self.tokenizer.vocab_size()
                    )
                })?);
                Ok(take_whole(bytes))
            }
            Held::Tokens { ids, read, given } => {
                ids.push(id);
                let text = match self.tokenizer.decode(ids) {
                    Ok(text) => text,
                    Err(error) => {
                        ids.pop();
                        return Err(error);
                    }
                };
                let new = after(&text, given);
                if new.is_empty() || new.ends_with(char::REPLACEMENT_CHARACTER) {
                    return Ok(String::new());
                }
                ids.drain(..*read);
                *read = ids.len();
                *given = self.tokenizer.decode(ids)?;
                Ok(new.to_owned())
            }
        }
    }

    /// What is left at the end: a part of a character, as U+FFFD.
    ///
    /// # Errors
    /// None that [`push`](Self::push) would not have met.
    pub fn finish(self) -> Result<String> {
        match self.held {
            Held::Bytes(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Held::Tokens { ids, given, .. } => {
                let text = self.tokenizer.decode(&ids)?;
                Ok(after(&text, &given).to_owned())
            }
        }
    }
}

/// What `text` has beyond the text that was given for its beginning.
fn after<'a>(text: &'a str, given: &str) -> &'a str {
    text.strip_prefix(given).unwrap_or_else(|| {
        // It reads differently now; go on after as many characters.
        let mut characters = text.chars();
        given.chars().for_each(|_| _ = characters.next());
        characters.as_str()
    })
}

/// Takes from `bytes` all but a character that is not whole yet. What can be no character becomes U+FFFD.
fn take_whole(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut taken = 0;
    loop {
        match std::str::from_utf8(&bytes[taken..]) {
            Ok(rest) => {
                text.push_str(rest);
                bytes.clear();
                return text;
            }
            Err(error) => {
                let valid = taken + error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&bytes[taken..valid]));
                let Some(bad) = error.error_len() else {
                    bytes.drain(..valid);
                    return text;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                taken = valid + bad;
            }
        }
    }
}

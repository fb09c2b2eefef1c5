//! Streaming decoding: a character whose bytes span several tokens is held back until it is complete.

use anyhow::{Context, Result};

use super::{Tokenizer, ids};

/// Decodes a stream of tokens. The results of [`push`](Self::push) and [`finish`](Self::finish), joined, are what
/// [`Tokenizer::decode`] gives for all tokens at once. The one exception is invalid UTF-8 in a tokenizer with byte fallback,
/// where Hugging Face's library decodes runs of bytes: a byte that invalidates a run can't take back text already returned.
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
    pending: Pending,
}

/// Tokens that have not been returned as text yet.
#[derive(Clone, Debug)]
enum Pending {
    /// The bytes of an incomplete character.
    Bytes(Vec<u8>),
    /// A token's text can depend on those before it, so the tokens of the last returned text are kept: the first
    /// `decoded_len` of `ids`, which decode to `decoded_text`.
    Tokens {
        ids: Vec<u32>,
        decoded_len: usize,
        decoded_text: String,
    },
}

impl<'a> StreamDecoder<'a> {
    /// A decoder that has seen no token yet.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let pending = match tokenizer {
            Tokenizer::Char(_) | Tokenizer::Bpe(_) => Pending::Bytes(Vec::new()),
            Tokenizer::HuggingFace(_) => Pending::Tokens {
                ids: Vec::new(),
                decoded_len: 0,
                decoded_text: String::new(),
            },
        };
        Self { tokenizer, pending }
    }

    /// The text that `id` completes, which may be empty.
    ///
    /// # Errors
    /// An unknown id.
    pub fn push(&mut self, id: u32) -> Result<String> {
        match &mut self.pending {
            Pending::Bytes(bytes) => {
                let token = self.tokenizer.token_bytes(id);
                bytes.extend(token.with_context(|| ids::unknown(id, self.tokenizer.vocab_size()))?);
                Ok(take_complete(bytes))
            }
            Pending::Tokens {
                ids,
                decoded_len,
                decoded_text,
            } => {
                ids.push(id);
                let text = match self.tokenizer.decode(ids) {
                    Ok(text) => text,
                    Err(error) => {
                        ids.pop();
                        return Err(error);
                    }
                };
                let new = after(&text, decoded_text);
                if new.is_empty() || new.ends_with(char::REPLACEMENT_CHARACTER) {
                    return Ok(String::new());
                }
                ids.drain(..*decoded_len);
                *decoded_len = ids.len();
                *decoded_text = self.tokenizer.decode(ids)?;
                Ok(new.to_owned())
            }
        }
    }

    /// The remaining text at the end of the stream: an incomplete character becomes U+FFFD.
    ///
    /// # Errors
    /// Only those of [`push`](Self::push).
    pub fn finish(self) -> Result<String> {
        match self.pending {
            Pending::Bytes(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Pending::Tokens { ids, decoded_text, .. } => {
                let text = self.tokenizer.decode(&ids)?;
                Ok(after(&text, &decoded_text).to_owned())
            }
        }
    }
}

/// The rest of `text` after `returned`, the text that was returned for its beginning.
fn after<'a>(text: &'a str, returned: &str) -> &'a str {
    text.strip_prefix(returned).unwrap_or_else(|| {
        // Later tokens have changed it; continue after as many characters.
        let mut characters = text.chars();
        returned.chars().for_each(|_| _ = characters.next());
        characters.as_str()
    })
}

/// Takes from `bytes` all but an incomplete character at the end. Invalid bytes become U+FFFD.
fn take_complete(bytes: &mut Vec<u8>) -> String {
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

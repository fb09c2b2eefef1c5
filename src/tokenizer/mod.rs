//! Text to token ids and back. No MLX here.
//!
//! To read it as a lesson, begin with [`basic`], byte-pair encoding as it is taught. The other files make the same
//! algorithm fast, exact and interchangeable:
//!
//! | file | contents |
//! |---|---|
//! | `char.rs` | one token per character |
//! | `basic.rs` | byte-level BPE in its simplest form; the oracle of the tests |
//! | `unicode.rs`, `split.rs` | classes of characters; text to chunks, by the patterns of GPT-2 and GPT-4 |
//! | `pre_tokenizer.rs` | text to chunks, by those patterns or a regular expression |
//! | `train.rs` | training merges with incremental pair counts |
//! | `ranks.rs`, `recover.rs` | merging a chunk; merges from ranks |
//! | `bpe.rs`, `published.rs` | the BPE tokenizer; those of GPT-2 and GPT-4 |
//! | `added.rs`, `special.rs` | special and other added tokens in a text |
//! | `byte_unicode.rs`, `hugging_face.rs` | bytes as printable characters; BPE as `tokenizer.json` |
//! | `ids.rs` | checks of the ids in any `tokenizer.json` |
//! | `gaps.rs` | gaps in the id range before added tokens |
//! | `hf_tokenizer.rs`, `hf_train.rs` | every other `tokenizer.json`, and training other kinds, by Hugging Face's `tokenizers` |
//! | `guarded.rs` | calls into that library, its panics turned into errors |
//! | `sentencepiece.rs`, `protobuf.rs` | sentencepiece's `.model` files as `tokenizer.json` |
//! | `tiktoken.rs`, `base64.rs` | `.tiktoken` files |
//! | `folder.rs` | tokenizers in several files, as `transformers` saves them |
//! | `difference.rs` | whether two tokenizers give the same ids |
//! | `pieces.rs` | token-by-token display of a text |
//! | `any.rs`, `stream.rs` | all kinds behind one type; streaming decoding |
//!
//! ```
//! use mlx_gpt::Tokenizer;
//!
//! let tokenizer = Tokenizer::gpt2()?;
//! assert_eq!(tokenizer.encode("hello world")?, [31373, 995]);
//! assert_eq!(tokenizer.decode(&[31373, 995])?, "hello world");
//! # Ok::<(), anyhow::Error>(())
//! ```

mod added;
mod any;
mod base64;
pub mod basic;
mod bpe;
pub mod byte_unicode;
mod char;
mod difference;
pub mod folder;
mod gaps;
mod guarded;
mod hf_tokenizer;
mod hf_train;
mod hugging_face;
pub(crate) mod ids;
pub mod pieces;
mod pre_tokenizer;
mod protobuf;
pub mod published;
mod ranks;
mod recover;
mod sentencepiece;
mod special;
mod split;
mod stream;
mod tiktoken;
mod train;
mod unicode;

pub use added::{AddedToken, AddedTokens};
pub use any::Tokenizer;
pub use bpe::Bpe;
pub use char::CharTokenizer;
pub use guarded::panic_is_caught;
pub use hf_tokenizer::HfTokenizer;
pub use hf_train::{train_sentencepiece, train_unigram};
pub use pre_tokenizer::{Expression, PreTokenizer};
pub use special::{SpecialChoice, Specials, ordinary_text_note};
pub use split::{Chunks, Pattern};
pub use stream::StreamDecoder;
pub use train::train_merges;

/// The special token between documents in GPT-2 and GPT-4; also the default prompt.
pub const END_OF_TEXT: &str = "<|endoftext|>";

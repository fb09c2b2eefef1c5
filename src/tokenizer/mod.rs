//! Text to token ids and back. No MLX here.
//!
//! The first day of the course has byte-pair encoding as it is taught, which the tests compare with. These files make the same
//! algorithm fast, exact and interchangeable:
//!
//! | file | contents |
//! |---|---|
//! | `char.rs` | one token per character |
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
//! | `chat/` | conversations as text and tokens, by a model's chat template |
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
mod bpe;
pub mod byte_unicode;
mod char;
pub mod chat;
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
pub use special::{SpecialTokenPolicy, SpecialTokenSet, ordinary_text_note};
pub use split::{Chunks, Pattern};
pub use stream::StreamDecoder;
pub use train::train_merges;

/// Two neighbouring tokens.
pub type Pair = (u32, u32);

/// The tokens of the single bytes are 0 to 255; merge `i` makes token `256 + i`.
pub const BYTES: u32 = 256;

/// The special token between documents in GPT-2 and GPT-4; also the default prompt.
pub const END_OF_TEXT: &str = "<|endoftext|>";

//! Files: atomic and durable writes, bounded reads of untrusted files, hashes, number formats.
//!
//! ```
//! use mlx_gpt::disk::hash::sha256;
//!
//! assert!(sha256(b"").starts_with("e3b0c442"));
//! ```

pub mod bytes;
pub mod download_progress;
pub(crate) mod durable;
pub(crate) mod files;
pub mod floats;
pub mod hash;
pub(crate) mod hint;
pub(crate) mod unfinished;

//! Token ids, in memory or mapped from shards on disk.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use rayon::prelude::*;

use crate::disk::files;

/// Size of a stored token id, little-endian: two bytes if the vocabulary allows, as in nanoGPT's `train.bin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenDtype {
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
}

impl TokenDtype {
    /// The smallest that fits every id of a vocabulary of that size.
    pub fn for_vocabulary(size: usize) -> Self {
        if size <= 1 << 16 { Self::U16 } else { Self::U32 }
    }

    /// Bytes per id.
    pub fn bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }

    /// Appends ids in their stored form.
    pub fn write(self, ids: &[u32], out: &mut Vec<u8>) {
        match self {
            Self::U16 => out.extend(ids.iter().flat_map(|&id| (id as u16).to_le_bytes())),
            Self::U32 => out.extend(ids.iter().flat_map(|&id| id.to_le_bytes())),
        }
    }
}

/// A sequence of token ids.
pub enum Tokens {
    /// In memory.
    Memory(Vec<u32>),
    /// Mapped files, in order.
    Shards(Vec<Shard>),
}

/// A memory-mapped file of token ids.
pub struct Shard {
    map: Mmap,
    dtype: TokenDtype,
}

impl Shard {
    /// Maps a file of tokens.
    ///
    /// # Errors
    /// It is missing or empty, or its size is not a multiple of the id's size.
    pub fn open(path: &Path, dtype: TokenDtype) -> Result<Self> {
        Self::open_after(path, 0, dtype)
    }

    /// Maps a file whose tokens follow a header of that many bytes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_after(path: &Path, header: u64, dtype: TokenDtype) -> Result<Self> {
        let shown = path.display();
        let file = files::open(path).with_context(|| format!("token shard {shown} cannot be read"))?;
        let bytes = file.metadata()?.len().saturating_sub(header);
        ensure!(bytes > 0, "token shard {shown} is empty; prepare the data again");
        ensure!(
            bytes.is_multiple_of(dtype.bytes() as u64),
            "token shard {shown} is truncated: its {bytes} bytes are not a multiple of {}; prepare the data again",
            dtype.bytes()
        );
        let map = files::map(&file, header, usize::try_from(bytes)?)
            .with_context(|| format!("token shard {shown} cannot be mapped"))?;
        Ok(Self { map, dtype })
    }

    /// Checks on all cores that every id is below `vocab_size`, so that training does not fail later. `path` is for the
    /// message.
    ///
    /// # Errors
    /// An id is out of range.
    pub fn check(&self, path: &Path, vocab_size: usize) -> Result<()> {
        const AT_ONCE: usize = 1 << 20;
        let chunks = self.map.par_chunks(AT_ONCE * self.dtype.bytes()).enumerate();
        let beyond = chunks.find_map_first(|(chunk, bytes)| {
            let at = match self.dtype {
                TokenDtype::U16 => {
                    let mut ids = bytes.as_chunks::<2>().0.iter().map(|&id| u16::from_le_bytes(id));
                    ids.position(|id| usize::from(id) >= vocab_size)
                }
                TokenDtype::U32 => {
                    let mut ids = bytes.as_chunks::<4>().0.iter().map(|&id| u32::from_le_bytes(id));
                    ids.position(|id| id as usize >= vocab_size)
                }
            };
            Some(chunk * AT_ONCE + at?)
        });
        let Some(at) = beyond else { return Ok(()) };
        let mut id = Vec::new();
        self.read(at, 1, &mut id);
        bail!(
            "{}, read as {}-bit numbers, contains token {} at position {at}, but the tokenizer's vocabulary has {vocab_size}; the data was tokenized with another tokenizer; name it with --tokenizer",
            path.display(),
            8 * self.dtype.bytes(),
            id[0]
        )
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.map.len() / self.dtype.bytes()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read(&self, start: usize, count: usize, out: &mut Vec<u32>) {
        let bytes = &self.map[start * self.dtype.bytes()..(start + count) * self.dtype.bytes()];
        match self.dtype {
            TokenDtype::U16 => {
                out.extend(
                    bytes
                        .as_chunks::<2>()
                        .0
                        .iter()
                        .map(|&token| u32::from(u16::from_le_bytes(token))),
                );
            }
            TokenDtype::U32 => out.extend(bytes.as_chunks::<4>().0.iter().map(|&token| u32::from_le_bytes(token))),
        }
    }
}

impl Tokens {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(ids) => ids.len(),
            Self::Shards(shards) => shards.iter().map(Shard::len).sum(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `count` tokens and the rest, both in memory.
    pub fn split(&self, count: usize) -> (Self, Self) {
        let part = |start, count| {
            let mut ids = Vec::with_capacity(count);
            self.read(start, count, &mut ids);
            Self::Memory(ids)
        };
        (part(0, count), part(count, self.len() - count))
    }

    /// Appends the tokens `start..start + count`, which must exist, to `out`.
    pub fn read(&self, mut start: usize, mut count: usize, out: &mut Vec<u32>) {
        match self {
            Self::Memory(ids) => out.extend_from_slice(&ids[start..start + count]),
            Self::Shards(shards) => {
                for shard in shards {
                    let here = count.min(shard.len().saturating_sub(start));
                    if here > 0 {
                        shard.read(start, here, out);
                        (start, count) = (start + here, count - here);
                    }
                    start = start.saturating_sub(shard.len());
                    if count == 0 {
                        break;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_read_as_one_sequence() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<u32> = (0..100).map(|id| id * 600).collect();
        for dtype in [TokenDtype::U16, TokenDtype::U32] {
            let parts = [&ids[..30], &ids[30..31], &ids[31..]];
            let shards = parts.iter().enumerate().map(|(number, part)| {
                let path = folder.path().join(format!("{number}.bin"));
                let mut bytes = Vec::new();
                dtype.write(part, &mut bytes);
                std::fs::write(&path, bytes).unwrap();
                Shard::open(&path, dtype).unwrap()
            });
            let tokens = Tokens::Shards(shards.collect());
            assert_eq!(tokens.len(), 100);
            for (start, count) in [(0, 100), (0, 30), (29, 3), (30, 1), (31, 69), (99, 1), (50, 0)] {
                let mut read = Vec::new();
                tokens.read(start, count, &mut read);
                assert_eq!(read, ids[start..start + count], "{start}, {count}");
            }
        }
    }

    /// Also beyond what one thread looks at.
    #[test]
    fn a_token_beyond_the_vocabulary_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.bin");
        for (dtype, count, at) in [
            (TokenDtype::U16, 10, 0),
            (TokenDtype::U16, 2_100_000, 2_099_999),
            (TokenDtype::U32, 9, 4),
        ] {
            let mut ids = vec![99; count];
            let write = |ids: &[u32]| {
                let mut bytes = Vec::new();
                dtype.write(ids, &mut bytes);
                std::fs::write(&path, bytes).unwrap();
                Shard::open(&path, dtype).unwrap().check(&path, 100)
            };
            write(&ids).unwrap();
            ids[at] = 100;
            let error = write(&ids).unwrap_err().to_string();
            assert!(error.contains(&format!("token 100 at position {at}")), "{error}");
        }
    }

    #[test]
    fn a_cut_shard_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.bin");
        std::fs::write(&path, [1, 2, 3]).unwrap();
        assert!(Shard::open(&path, TokenDtype::U16).is_err());
        std::fs::write(&path, []).unwrap();
        assert!(Shard::open(&path, TokenDtype::U16).is_err());
    }
}

//! Files of token ids that other programs wrote, mapped into memory as they are.
//!
//! | format | how it begins | numbers |
//! |---|---|---|
//! | bare, nanoGPT's `train.bin` | with the first id | 16-bit; 32-bit where the vocabulary or the file says so |
//! | llm.c's and modded-nanogpt's shards | 256 numbers of 32 bits: 20240520, 1, how many ids follow | 16-bit |
//! | llm.c's for Llama 3 | the same with 20240801, 7 | 32-bit |
//! | NumPy's, build-nanogpt's shards | `\x93NUMPY`, a version, a description in words | as it says |

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::tokens::{Shard, TokenWidth};
use crate::disk::files;

/// Bytes of llm.c's header.
const LLM_C_HEADER: usize = 256 * 4;
/// llm.c's formats (`dev/data/data_common.py`): magic number, version, width of an id.
const LLM_C: [(u32, u32, TokenWidth); 2] = [(20240520, 1, TokenWidth::U16), (20240801, 7, TokenWidth::U32)];
/// llm.c's files of questions with several answers.
const LLM_C_QUESTIONS: u32 = 20240522;
const NUMPY: &[u8] = b"\x93NUMPY";

/// Bytes at the beginning of a file in which its format shows: more than any header has.
const HEAD: u64 = 1 << 16;
/// Ids of a bare file that tell 32-bit numbers from 16-bit ones.
const ENOUGH_TO_TELL: usize = 16;

/// Where the ids of a file are.
#[derive(Debug, PartialEq)]
pub struct Layout {
    pub format: Format,
    /// Bytes before the first id.
    pub offset: u64,
    pub width: TokenWidth,
    /// Ids after it, as the header says, or as the file's size does.
    count: u64,
}

impl Layout {
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Format and width, for people.
    pub fn kind(&self) -> String {
        format!("{}, {} bits", self.format.name(), 8 * self.width.bytes())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Bare,
    LlmC,
    Numpy,
}

impl Format {
    /// What it is called for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare numbers, as nanoGPT's",
            Self::LlmC => "llm.c's format",
            Self::Numpy => "NumPy's format",
        }
    }
}

/// How a file is laid out, for ids of a vocabulary of that size.
///
/// # Errors
/// It cannot be read, or has a format that is known and not one of ids.
pub fn layout(path: &Path, vocab_size: usize) -> Result<Layout> {
    let shown = path.display();
    let file = files::open(path).with_context(|| format!("token file {shown} cannot be read"))?;
    let bytes = file.metadata()?.len();
    let head = read_head(&file).with_context(|| format!("token file {shown} cannot be read"))?;
    layout_of(&head, bytes, vocab_size).with_context(|| format!("token file {shown}"))
}

/// Maps a file of ids of a vocabulary of that size.
///
/// # Errors
/// As [`layout`]; a truncated file; an id that is out of range.
pub fn open(path: &Path, vocab_size: usize) -> Result<Shard> {
    let layout = layout(path, vocab_size)?;
    let shard = Shard::open_after(path, layout.offset, layout.width)?;
    let shown = path.display();
    ensure!(
        shard.len() as u64 == layout.count,
        "token file {shown} was cut: it has {} ids, its header says {}; copy or make it again",
        shard.len(),
        layout.count
    );
    shard.check(path, vocab_size)?;
    Ok(shard)
}

fn read_head(file: &File) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

fn layout_of(head: &[u8], bytes: u64, vocab_size: usize) -> Result<Layout> {
    if head.starts_with(NUMPY) {
        return numpy_layout(head);
    }
    if let Some(layout) = llm_c_layout(head)? {
        return Ok(layout);
    }
    let width = bare_width(head, bytes, vocab_size)?;
    Ok(Layout {
        format: Format::Bare,
        offset: 0,
        width,
        count: bytes / width.bytes() as u64,
    })
}

fn llm_c_layout(head: &[u8]) -> Result<Option<Layout>> {
    let numbers = head.as_chunks::<4>().0;
    let number = |at: usize| numbers.get(at).map(|&bytes| u32::from_le_bytes(bytes));
    let Some(magic) = number(0) else { return Ok(None) };
    if magic == LLM_C_QUESTIONS && number(1) == Some(1) {
        bail!("it holds questions with several answers in llm.c's format, not a text; give the files of a text");
    }
    let Some(&(_, version, width)) = LLM_C.iter().find(|format| format.0 == magic) else {
        return Ok(None);
    };
    let found = number(1).unwrap_or(0);
    ensure!(
        found == version,
        "it is in llm.c's format {magic}, version {found}; version {version} is the one that is read: make it again with a current llm.c"
    );
    ensure!(
        head.len() >= LLM_C_HEADER,
        "it was cut in its header; copy or make it again"
    );
    Ok(Some(Layout {
        format: Format::LlmC,
        offset: LLM_C_HEADER as u64,
        width,
        count: number(2).unwrap_or(0).into(),
    }))
}

/// NumPy's format (numpy.lib.format): magic, version, length of the description, the description as a Python dict.
fn numpy_layout(head: &[u8]) -> Result<Layout> {
    const CUT: &str = "it was cut in its header; copy or make it again";
    let version = *head.get(NUMPY.len()).context(CUT)?;
    let rest = head.get(NUMPY.len() + 2..).context(CUT)?;
    let (length, rest) = match version {
        1 => rest
            .split_first_chunk()
            .map(|(bytes, rest)| (usize::from(u16::from_le_bytes(*bytes)), rest)),
        2 | 3 => rest
            .split_first_chunk()
            .map(|(bytes, rest)| (u32::from_le_bytes(*bytes) as usize, rest)),
        _ => bail!("it is in version {version} of NumPy's format; 1 to 3 are read"),
    }
    .context(CUT)?;
    let description = rest.get(..length).context(CUT)?;
    let description = str::from_utf8(description).context("its header is not text")?;
    let width = match value_of(description, "descr") {
        Some("'<u2'") => TokenWidth::U16,
        // Ids are never negative, so that the sign says nothing.
        Some("'<u4'" | "'<i4'") => TokenWidth::U32,
        other => bail!(
            "its numbers are of the type {}; save the ids as uint16 or uint32: np.save(file, ids.astype(np.uint16))",
            other.unwrap_or("none")
        ),
    };
    let shape = description
        .split_once("'shape':")
        .and_then(|(_, rest)| rest.split_once('(')?.1.split_once(')'))
        .map(|(shape, _)| shape.trim())
        .unwrap_or_default();
    let count = shape
        .strip_suffix(',')
        .and_then(|count| count.parse().ok())
        .with_context(|| format!("its shape is ({shape}); ids must be an array of one dimension"))?;
    Ok(Layout {
        format: Format::Numpy,
        offset: (head.len() - rest.len() + length) as u64,
        width,
        count,
    })
}

/// The value of a key that is followed by a comma, in a Python dict.
fn value_of<'a>(description: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = description.split_once(&format!("'{key}':"))?;
    Some(rest.split_once(',')?.0.trim())
}

/// How wide the numbers of a file without a header are. nanoGPT writes 16 bits, which hold the ids of up to 65,536 tokens;
/// others always write 32. Those are recognised by the high half of every number being at most 3, as no vocabulary has more
/// than 4 · 65,536 tokens. For characters it must be 0: a text in 16 bits may well have small ids at every second position.
fn bare_width(head: &[u8], bytes: u64, vocab_size: usize) -> Result<TokenWidth> {
    let most = if vocab_size < 256 { 0 } else { 3 };
    // Whether little-endian numbers of `count` halves have at most `most` in the second half and zeros above it.
    let looks_wide = |count: usize| {
        let halves: Vec<u16> = head
            .as_chunks()
            .0
            .iter()
            .map(|&half| u16::from_le_bytes(half))
            .collect();
        let small = |number: &[u16]| number[1] <= most && number[2..].iter().all(|&half| half == 0);
        bytes.is_multiple_of(2 * count as u64)
            && halves.len() / count >= ENOUGH_TO_TELL
            && halves.chunks_exact(count).all(small)
    };
    ensure!(
        !looks_wide(4),
        "its numbers have 64 bits, np.array's default; write them again with np.array(ids, dtype=np.uint16), or uint32 for a vocabulary over 65536"
    );
    let narrow = TokenWidth::for_vocabulary(vocab_size);
    Ok(if looks_wide(2) { TokenWidth::U32 } else { narrow })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llm_c(magic: u32, version: u32, count: u32) -> Vec<u8> {
        let mut header = vec![0; LLM_C_HEADER];
        for (at, number) in [magic, version, count].into_iter().enumerate() {
            header[4 * at..4 * at + 4].copy_from_slice(&number.to_le_bytes());
        }
        header
    }

    fn ids(width: TokenWidth, ids: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        width.write(ids, &mut bytes);
        bytes
    }

    fn of(bytes: &[u8], vocab_size: usize) -> Result<Layout> {
        layout_of(bytes, bytes.len() as u64, vocab_size)
    }

    #[test]
    fn headers_say_where_the_ids_are() {
        for (magic, version, width) in LLM_C {
            let layout = of(&llm_c(magic, version, 7), 50257).unwrap();
            assert_eq!(
                (layout.format, layout.offset, layout.width, layout.count),
                (Format::LlmC, 1024, width, 7)
            );
            let error = of(&llm_c(magic, version + 1, 7), 50257).unwrap_err().to_string();
            assert!(error.contains(&format!("version {}", version + 1)), "{error}");
            assert!(of(&llm_c(magic, version, 7)[..1000], 50257).is_err());
        }
        assert!(of(&llm_c(LLM_C_QUESTIONS, 1, 7), 50257).is_err());
        // np.save of arange(5, dtype=uint16), padded by NumPy to 64 bytes.
        let words = format!("{:<117}\n", "{'descr': '<u2', 'fortran_order': False, 'shape': (5,), }");
        for (version, length) in [(1, 118u16.to_le_bytes().to_vec()), (2, 118u32.to_le_bytes().to_vec())] {
            let start = [NUMPY, &[version, 0], &length].concat();
            let header = [&start[..], words.as_bytes()].concat();
            let layout = of(&header, 50257).unwrap();
            assert_eq!(
                (layout.format, layout.offset, layout.width, layout.count),
                (Format::Numpy, header.len() as u64, TokenWidth::U16, 5)
            );
            let wide = words.replace("<u2", "<i4");
            assert_eq!(
                of(&[&start[..], wide.as_bytes()].concat(), 9).unwrap().width,
                TokenWidth::U32
            );
            for (old, new, expected) in [
                ("<u2", "<i8", "'<i8'"),
                ("(5,)", "(5,1)", "(5,1)"),
                ("shape", "shade", "()"),
            ] {
                let error = of(&[&start[..], words.replace(old, new).as_bytes()].concat(), 9).unwrap_err();
                assert!(error.to_string().contains(expected), "{error}");
            }
        }
    }

    #[test]
    fn bare_numbers_are_as_wide_as_they_look() {
        let numbers: Vec<u32> = (1..40).collect();
        let (narrow, wide) = (ids(TokenWidth::U16, &numbers), ids(TokenWidth::U32, &numbers));
        let large = ids(TokenWidth::U32, &numbers.iter().map(|id| id * 2500).collect::<Vec<_>>());
        let lines = ids(TokenWidth::U16, &numbers.iter().map(|id| id % 2).collect::<Vec<_>>()); // "1\n1\n", a line end being 0
        for (bytes, vocab_size, expected) in [
            (&narrow, 50257, TokenWidth::U16),
            (&wide, 50257, TokenWidth::U32), // early versions of llm.c
            (&wide, 100277, TokenWidth::U32),
            (&narrow, 100277, TokenWidth::U32), // they cannot be of this vocabulary, which the ids will show
            (&large, 50257, TokenWidth::U32),   // of another vocabulary, which the ids will show
            (&lines, 3, TokenWidth::U16),
        ] {
            assert_eq!(of(bytes, vocab_size).unwrap().width, expected);
        }
        let longest: Vec<u8> = numbers.iter().flat_map(|&id| u64::from(id).to_le_bytes()).collect();
        let error = of(&longest, 50257).unwrap_err().to_string();
        assert!(error.contains("64 bits"), "{error}");
    }
}

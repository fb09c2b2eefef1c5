//! Token files of other programs, mapped into memory.
//!
//! | format | begins with | ids |
//! |---|---|---|
//! | bare, nanoGPT's `train.bin` | the first id | 16-bit; 32-bit if the vocabulary requires it or the file looks so |
//! | llm.c's and modded-nanogpt's shards | 256 32-bit numbers: 20240520, 1, number of ids | 16-bit |
//! | llm.c's for Llama 3 | the same with 20240801, 7 | 32-bit |
//! | NumPy's, build-nanogpt's shards | `\x93NUMPY`, a version, a Python dict | as the dict says |

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::tokens::{Shard, TokenDtype};
use crate::disk::files;

/// Bytes of llm.c's header.
const LLM_C_HEADER: usize = 256 * 4;
/// llm.c's formats (`dev/data/data_common.py`): magic number, version, size of an id.
const LLM_C: [(u32, u32, TokenDtype); 2] = [(20240520, 1, TokenDtype::U16), (20240801, 7, TokenDtype::U32)];
/// llm.c's multiple-choice files.
const LLM_C_QUESTIONS: u32 = 20240522;
const NUMPY: &[u8] = b"\x93NUMPY";

/// Bytes read to detect a file's format: more than any header has.
const HEADER_PROBE_BYTES: u64 = 1 << 16;
/// Minimum number of ids of a bare file to detect 32-bit numbers.
const MIN_IDS_TO_DETECT_WIDTH: usize = 16;

/// Format of a file, and the location of its ids.
#[derive(Debug, PartialEq)]
pub struct Layout {
    /// The format.
    pub format: Format,
    /// Bytes before the first id.
    pub offset: u64,
    /// Size of an id.
    pub dtype: TokenDtype,
    /// Number of ids according to the header, or else to the file's size.
    count: u64,
}

impl Layout {
    /// Number of ids.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Format and dtype, for display.
    pub fn description(&self) -> String {
        format!("{}, {} bits", self.format.name(), 8 * self.dtype.bytes())
    }
}

/// The format of a token file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Ids without a header.
    Bare,
    /// llm.c's.
    LlmC,
    /// NumPy's.
    Numpy,
}

impl Format {
    /// Its name, for display.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare numbers, as nanoGPT's",
            Self::LlmC => "llm.c's format",
            Self::Numpy => "NumPy's format",
        }
    }
}

/// Detects the layout of a file of ids of a vocabulary of that size.
///
/// # Errors
/// It cannot be read, or has a known format that does not hold ids.
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
    let shard = Shard::open_after(path, layout.offset, layout.dtype)?;
    let shown = path.display();
    ensure!(
        shard.len() as u64 == layout.count,
        "token file {shown} is truncated: it has {} ids, its header says {}; copy or create it again",
        shard.len(),
        layout.count
    );
    shard.check(path, vocab_size)?;
    Ok(shard)
}

fn read_head(file: &File) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(HEADER_PROBE_BYTES).read_to_end(&mut head)?;
    Ok(head)
}

fn layout_of(head: &[u8], bytes: u64, vocab_size: usize) -> Result<Layout> {
    if head.starts_with(NUMPY) {
        return numpy_layout(head);
    }
    if let Some(layout) = llm_c_layout(head)? {
        return Ok(layout);
    }
    let dtype = bare_dtype(head, bytes, vocab_size)?;
    Ok(Layout {
        format: Format::Bare,
        offset: 0,
        dtype,
        count: bytes / dtype.bytes() as u64,
    })
}

fn llm_c_layout(head: &[u8]) -> Result<Option<Layout>> {
    let numbers = head.as_chunks::<4>().0;
    let number = |at: usize| numbers.get(at).map(|&bytes| u32::from_le_bytes(bytes));
    let Some(magic) = number(0) else { return Ok(None) };
    if magic == LLM_C_QUESTIONS && number(1) == Some(1) {
        bail!("it contains multiple-choice questions in llm.c's format, not a text; give the token files of a text");
    }
    let Some(&(_, version, dtype)) = LLM_C.iter().find(|format| format.0 == magic) else {
        return Ok(None);
    };
    let found = number(1).unwrap_or(0);
    ensure!(
        found == version,
        "it has llm.c's format {magic}, version {found}; only version {version} is supported: create it again with a current llm.c"
    );
    ensure!(
        head.len() >= LLM_C_HEADER,
        "its header is truncated; copy or create it again"
    );
    Ok(Some(Layout {
        format: Format::LlmC,
        offset: LLM_C_HEADER as u64,
        dtype,
        count: number(2).unwrap_or(0).into(),
    }))
}

/// NumPy's format (numpy.lib.format): magic, version, length of the description, the description as a Python dict.
fn numpy_layout(head: &[u8]) -> Result<Layout> {
    const CUT: &str = "its header is truncated; copy or create it again";
    let version = *head.get(NUMPY.len()).context(CUT)?;
    let rest = head.get(NUMPY.len() + 2..).context(CUT)?;
    let (length, rest) = match version {
        1 => rest
            .split_first_chunk()
            .map(|(bytes, rest)| (usize::from(u16::from_le_bytes(*bytes)), rest)),
        2 | 3 => rest
            .split_first_chunk()
            .map(|(bytes, rest)| (u32::from_le_bytes(*bytes) as usize, rest)),
        _ => bail!("it has version {version} of NumPy's format; 1 to 3 are supported"),
    }
    .context(CUT)?;
    let description = rest.get(..length).context(CUT)?;
    let description = str::from_utf8(description).context("its header is not text")?;
    let dtype = match value_of(description, "descr") {
        Some("'<u2'") => TokenDtype::U16,
        // Ids are never negative, so signedness does not matter.
        Some("'<u4'" | "'<i4'") => TokenDtype::U32,
        other => bail!(
            "its numbers have the type {}; save the ids as uint16 or uint32: np.save(file, ids.astype(np.uint16))",
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
        .with_context(|| format!("its shape is ({shape}); it must be one-dimensional"))?;
    Ok(Layout {
        format: Format::Numpy,
        offset: (head.len() - rest.len() + length) as u64,
        dtype,
        count,
    })
}

/// The value of a key that is followed by a comma, in a Python dict.
fn value_of<'a>(description: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = description.split_once(&format!("'{key}':"))?;
    Some(rest.split_once(',')?.0.trim())
}

/// Size of the ids of a file without a header. nanoGPT writes 16 bits, enough for 65,536 tokens; others always write 32
/// bits, which is detected by the high half of every number being at most 3, because no vocabulary exceeds 4 · 65,536
/// tokens. For character vocabularies it must be 0: in 16-bit data, small ids may legitimately alternate.
fn bare_dtype(head: &[u8], bytes: u64, vocab_size: usize) -> Result<TokenDtype> {
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
            && halves.len() / count >= MIN_IDS_TO_DETECT_WIDTH
            && halves.chunks_exact(count).all(small)
    };
    ensure!(
        !looks_wide(4),
        "its numbers have 64 bits, np.array's default; save them again with np.array(ids, dtype=np.uint16), or uint32 for a vocabulary over 65536"
    );
    let narrow = TokenDtype::for_vocabulary(vocab_size);
    Ok(if looks_wide(2) { TokenDtype::U32 } else { narrow })
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

    fn ids(dtype: TokenDtype, ids: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        dtype.write(ids, &mut bytes);
        bytes
    }

    fn of(bytes: &[u8], vocab_size: usize) -> Result<Layout> {
        layout_of(bytes, bytes.len() as u64, vocab_size)
    }

    #[test]
    fn headers_say_where_the_ids_are() {
        for (magic, version, dtype) in LLM_C {
            let layout = of(&llm_c(magic, version, 7), 50257).unwrap();
            assert_eq!(
                (layout.format, layout.offset, layout.dtype, layout.count),
                (Format::LlmC, 1024, dtype, 7)
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
                (layout.format, layout.offset, layout.dtype, layout.count),
                (Format::Numpy, header.len() as u64, TokenDtype::U16, 5)
            );
            let wide = words.replace("<u2", "<i4");
            assert_eq!(
                of(&[&start[..], wide.as_bytes()].concat(), 9).unwrap().dtype,
                TokenDtype::U32
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
        let (narrow, wide) = (ids(TokenDtype::U16, &numbers), ids(TokenDtype::U32, &numbers));
        let large = ids(TokenDtype::U32, &numbers.iter().map(|id| id * 2500).collect::<Vec<_>>());
        let lines = ids(TokenDtype::U16, &numbers.iter().map(|id| id % 2).collect::<Vec<_>>()); // "1\n1\n", a line end being 0
        for (bytes, vocab_size, expected) in [
            (&narrow, 50257, TokenDtype::U16),
            (&wide, 50257, TokenDtype::U32), // early versions of llm.c
            (&wide, 100277, TokenDtype::U32),
            (&narrow, 100277, TokenDtype::U32), // they cannot be of this vocabulary, which the ids will show
            (&large, 50257, TokenDtype::U32),   // of another vocabulary, which the ids will show
            (&lines, 3, TokenDtype::U16),
        ] {
            assert_eq!(of(bytes, vocab_size).unwrap().dtype, expected);
        }
        let longest: Vec<u8> = numbers.iter().flat_map(|&id| u64::from(id).to_le_bytes()).collect();
        let error = of(&longest, 50257).unwrap_err().to_string();
        assert!(error.contains("64 bits"), "{error}");
    }
}

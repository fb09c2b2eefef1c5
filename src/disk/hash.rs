//! SHA-256, in hexadecimal.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::files;

/// SHA-256 of bytes in lower-case hexadecimal.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    finish(Sha256::new().chain_update(bytes))
}

/// SHA-256 of a file's contents, read in blocks.
///
/// # Errors
/// It cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    sha256_of_blocks(path, || {})
}

/// As [`sha256_of_file`]; `on_block` is called after each block of a MiB.
///
/// # Errors
/// It cannot be read.
pub fn sha256_of_blocks(path: &Path, mut on_block: impl FnMut()) -> Result<String> {
    let mut file = files::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(finish(hash)),
            read => hash.update(&block[..read]),
        }
        on_block();
    }
}

/// The lower-case hexadecimal digits of a finished hash.
pub fn finish(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

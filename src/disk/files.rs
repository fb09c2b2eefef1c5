//! Reads untrusted files: regular files only, with a size limit.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use memmap2::{Mmap, MmapMut, MmapOptions};
use rustix::process::{fchdir, getcwd};
use serde::de::DeserializeOwned;

use super::unfinished::is_at;

/// Maximum size in bytes of a file that is read whole. The largest published tokenizers are about 35 MB.
pub const MAX_FILE_BYTES: u64 = 1 << 28;

/// Opens a regular file, following links. A pipe could block forever, and a device may be endless.
///
/// # Errors
/// It does not exist, or is not a regular file.
pub fn open(path: &Path) -> Result<File> {
    let kind = fs::metadata(path)?.file_type();
    ensure!(!kind.is_dir(), "it is a folder, not a file");
    ensure!(
        kind.is_file(),
        "it is a pipe, a socket or a device; write its contents to a regular file first"
    );
    Ok(File::open(path)?)
}

/// Reads a whole file, such as a configuration, a tokenizer or a manifest.
///
/// # Errors
/// As [`open`], or it is too large.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    read_up_to(open(path)?, MAX_FILE_BYTES)
}

/// Reads a JSON file. `what` describes its contents for the error message, such as "a manifest of tokens".
///
/// # Errors
/// As [`read`], or its contents are something else.
pub fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let bytes = read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not {what}", path.display()))
}

/// Checks the version of the format of the file at `path`; `newest` is the last one that this program knows.
///
/// # Errors
/// It is newer.
pub fn ensure_version(path: &Path, version: u32, newest: u32) -> Result<()> {
    ensure!(
        version <= newest,
        "{} has format {version}, this program knows up to {newest}; use a newer mlx-gpt",
        path.display()
    );
    Ok(())
}

/// Checks that a name found in the file `origin` is a plain file name, which cannot lead out of a folder.
///
/// # Errors
/// It is a path.
pub fn ensure_plain_name(name: &str, origin: &Path) -> Result<()> {
    ensure!(
        Path::new(name).file_name() == Some(name.as_ref()),
        "{}: {name:?} is not the name of a file in this folder",
        origin.display()
    );
    Ok(())
}

/// Maps bytes of a file into memory, so that only the pages that are used are read.
///
/// # Errors
/// The file is shorter, or cannot be mapped.
#[allow(unsafe_code, reason = "the only way to map a file")]
pub fn map(file: &File, from: u64, bytes: usize) -> Result<Mmap> {
    let options = part_of(file, from, bytes)?;
    // SAFETY: mapped bytes must not change while they are read. This program's files get their names when they are complete and
    // are never written again; other programs' files are assumed not to change while they are read. Truncating one ends the
    // process by a signal, without a wrong result.
    Ok(unsafe { options.map(file) }?)
}

/// As [`map`], for writing too: pages that are written to are copied, and the file stays as it is.
///
/// # Errors
/// As [`map`].
#[allow(unsafe_code, reason = "the only way to map a file")]
pub fn map_privately(file: &File, from: u64, bytes: usize) -> Result<MmapMut> {
    let options = part_of(file, from, bytes)?;
    // SAFETY: as for `map`.
    Ok(unsafe { options.map_copy(file) }?)
}

/// That part of a file, to be mapped.
fn part_of(file: &File, from: u64, bytes: usize) -> Result<MmapOptions> {
    let end = from.checked_add(bytes as u64);
    ensure!(
        end.is_some_and(|end| file.metadata().is_ok_and(|file| end <= file.len())),
        "it is truncated"
    );
    let mut options = MmapOptions::new();
    options.offset(from).len(bytes);
    Ok(options)
}

/// The current path of an open folder, which may have been renamed. On macOS, which has no `/proc`, the working directory of
/// the process changes for a moment.
///
/// # Errors
/// It was removed.
pub fn path_of_folder(folder: &File) -> Result<PathBuf> {
    // Where the system shows open files as links; the path of a removed folder has a remark in it.
    if let Ok(path) = fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())) {
        ensure!(is_at(folder, &path), "it was removed");
        return Ok(path);
    }
    // There is no other portable way. While it runs, relative paths resolve wrongly in other threads; those that compute
    // use none.
    let here = File::open(".")?;
    fchdir(folder)?;
    let path = getcwd(Vec::new());
    fchdir(&here)?;
    Ok(PathBuf::from(OsString::from_vec(path?.into_bytes())))
}

/// Reads `reader` to its end.
///
/// # Errors
/// It cannot be read, or has more than `most` bytes.
pub fn read_up_to(reader: impl Read, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= most,
        "it has more than {most} bytes, which is the limit here"
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_folder_is_found_under_its_new_name() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| folder.path().canonicalize().unwrap().join(name));
        fs::create_dir(&old).unwrap();
        let open = File::open(&old).unwrap();
        let here = std::env::current_dir().unwrap();
        fs::rename(&old, &new).unwrap();
        fs::create_dir(&old).unwrap();
        assert_eq!(path_of_folder(&open).unwrap(), new);
        fs::remove_dir(&new).unwrap();
        assert!(path_of_folder(&open).is_err());
        assert_eq!(std::env::current_dir().unwrap(), here);
    }

    #[test]
    fn what_has_no_end_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, expected) in [
            (folder.path(), "a folder"),
            (&socket, "a pipe, a socket or a device"),
            (Path::new("/dev/zero"), "a pipe, a socket or a device"),
            (&folder.path().join("none"), "No such file"),
        ] {
            let error = format!("{:#}", read(path).unwrap_err());
            assert!(error.contains(expected), "{}: {error}", path.display());
        }
        let error = read_up_to(io::repeat(b'y'), 1000).unwrap_err().to_string();
        assert!(error.contains("more than 1000 bytes"), "{error}");
        assert_eq!(read_up_to(&b"abc"[..], 3).unwrap(), b"abc");
    }
}

//! Hints for errors of the file system.

use std::fmt::Display;
use std::io::{self, ErrorKind};

use anyhow::Error;
use rustix::io::Errno;

/// Advice for the I/O error in the chain of `error`, worded to follow a semicolon; `None` if the chain has none, or if there
/// is no advice for it. The message of `error` may already contain advice.
pub fn hint(error: &Error) -> Option<&'static str> {
    disk_hint(error).or_else(|| match io_error(error)?.kind() {
        ErrorKind::PermissionDenied => Some("make it writable (chmod u+w), or use a folder that you can write to"),
        ErrorKind::NotFound => Some("restore what is missing"),
        _ => None,
    })
}

/// As [`hint`], but only for errors of the disk itself, whose advice does not depend on what failed.
pub fn disk_hint(error: &Error) -> Option<&'static str> {
    let error = io_error(error)?;
    Some(match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make space",
        ErrorKind::FileTooLarge => "raise the limit on the size of files (ulimit -f)",
        ErrorKind::ReadOnlyFilesystem => "make its file system writable, or use another",
        // By its text: some libraries wrap the error, and it has no kind of its own.
        _ if error
            .to_string()
            .contains(&format!("(os error {})", Errno::IO.raw_os_error())) =>
        {
            "the disk reports errors: use another"
        }
        _ => return None,
    })
}

fn io_error(error: &Error) -> Option<&io::Error> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// Adds the context `what` to `error`, with a hint if there is one.
pub fn with_hint(error: Error, what: impl Display) -> Error {
    match hint(&error) {
        Some(hint) => error.context(format!("{what}; {hint}")),
        None => error.context(what.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_belongs_to_its_error() {
        let said = |errno: Errno| {
            format!(
                "{:#}",
                with_hint(io::Error::from(errno).into(), "x could not be written")
            )
        };
        for (errno, helps) in [
            (Errno::NOSPC, "make space"),
            (Errno::DQUOT, "make space"),
            (Errno::FBIG, "ulimit -f"),
            (Errno::IO, "use another"),
            (Errno::ROFS, "writable"),
            (Errno::ACCESS, "chmod"),
        ] {
            assert!(said(errno).starts_with("x could not be written; "), "{}", said(errno));
            assert!(said(errno).contains(helps), "{}", said(errno));
        }
        let own = with_hint(Error::msg("it is taken; choose another"), "x could not be written");
        assert_eq!(
            format!("{own:#}"),
            "x could not be written: it is taken; choose another"
        );
    }
}

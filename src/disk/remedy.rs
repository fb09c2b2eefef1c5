//! Hints for errors of the file system.

use std::fmt::Display;
use std::io::{self, ErrorKind};

use anyhow::Error;
use rustix::io::Errno;

/// A hint for the system's error in `error`, worded to follow a semicolon; `None` if there is none, where `error` says
/// itself what to do.
pub fn remedy(error: &Error) -> Option<&'static str> {
    let error = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>())?;
    Some(match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make space",
        ErrorKind::FileTooLarge => "raise the limit on the size of files (ulimit -f)",
        ErrorKind::ReadOnlyFilesystem => "make its file system writable, or use another",
        ErrorKind::PermissionDenied => "make it writable (chmod u+w), or use a folder that you can write to",
        ErrorKind::NotFound => "restore what is missing",
        _ if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => "the disk reports errors: use another",
        _ => return None,
    })
}

/// Adds `what` failed to `error`, and a hint if there is one.
pub fn with_remedy(error: Error, what: impl Display) -> Error {
    match remedy(&error) {
        Some(helps) => error.context(format!("{what}; {helps}")),
        None => error.context(what.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_is_of_its_error() {
        let said = |errno: Errno| {
            format!(
                "{:#}",
                with_remedy(io::Error::from(errno).into(), "x could not be written")
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
        let own = with_remedy(Error::msg("it is taken; choose another"), "x could not be written");
        assert_eq!(
            format!("{own:#}"),
            "x could not be written: it is taken; choose another"
        );
    }
}

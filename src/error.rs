//! The errors of the library's public interface.

use std::fmt::{self, Debug, Display, Formatter};

use mlx_rs::error::Exception;

/// The kind of an error, for programs to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no checkpoint, run or file at a path.
    NotFound,
    /// A checkpoint that is damaged, incomplete or of an unsupported format.
    Checkpoint,
    /// A text that the tokenizer cannot encode, or ids outside its vocabulary.
    Text,
    /// An invalid option.
    Options,
    /// MLX failed: too little memory, a failed device, weights that are not finite.
    Compute,
}

/// An error of the library. Its message names in one line the file, key or value that it is about, all its causes, and
/// what to do about it; [`kind`](Self::kind) is for programs.
///
/// ```
/// use mlx_gpt::{ErrorKind, LanguageModel};
///
/// let error = LanguageModel::load("no/such/folder").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert!(error.to_string().contains("no/such/folder"));
/// ```
pub struct Error {
    kind: ErrorKind,
    cause: anyhow::Error,
}

/// The result type of the library's public functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of that kind, or of [`ErrorKind::Compute`] if MLX caused it; one of the library keeps its kind.
    pub(crate) fn new(kind: ErrorKind, cause: anyhow::Error) -> Self {
        let cause = match cause.downcast::<Self>() {
            Ok(error) => return error,
            Err(cause) => cause,
        };
        let of_mlx = cause.chain().any(|cause| cause.is::<Exception>());
        let kind = if of_mlx { ErrorKind::Compute } else { kind };
        Self { kind, cause }
    }

    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// Converts internal errors to [`Error`]s of a kind.
pub(crate) trait OfKind<T> {
    fn of_kind(self, kind: ErrorKind) -> Result<T>;
}

impl<T> OfKind<T> for anyhow::Result<T> {
    fn of_kind(self, kind: ErrorKind) -> Result<T> {
        self.map_err(|cause| Error::new(kind, cause))
    }
}

/// An error's message. MLX appends its source location, which is stripped.
pub(crate) fn message(cause: &(dyn std::error::Error + 'static)) -> String {
    match cause.downcast_ref::<Exception>() {
        Some(exception) => exception.what().split(" at /").next().unwrap_or_default().to_owned(),
        None => cause.to_string(),
    }
}

/// An error and its causes in one line. A cause that an outer message already includes is not repeated.
pub(crate) fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(message) {
        if !line.contains(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause;
        }
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Display for Error {
    /// The whole message, with its causes.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&line(&self.cause))
    }
}

impl Debug for Error {
    /// The same, because it is what a `main` that returns the error prints.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_mlx_is_one_wherever_it_came_up() {
        let broken = anyhow::anyhow!("it is cut short").context("weights.safetensors");
        let error = Error::new(ErrorKind::Checkpoint, broken);
        assert_eq!(error.kind(), ErrorKind::Checkpoint);
        assert_eq!(error.to_string(), "weights.safetensors: it is cut short");

        let failed = anyhow::Error::new(Exception::custom("no memory")).context("loading");
        assert_eq!(Error::new(ErrorKind::Checkpoint, failed).kind(), ErrorKind::Compute);
    }
}

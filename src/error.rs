//! What the library's own users meet when something goes wrong.

use std::fmt::{self, Debug, Display, Formatter};

use mlx_rs::error::Exception;

/// What an error is about, for programs to decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no checkpoint, run or file at a path.
    NotFound,
    /// A checkpoint that is damaged, incomplete or of a kind that is not read.
    Checkpoint,
    /// A text that the tokenizer cannot write, or ids that are no tokens of it.
    Text,
    /// A number or a name among the options that cannot be.
    Options,
    /// MLX could not compute: memory that is not there, a device that failed, weights that are not finite.
    Compute,
}

/// An error at the library's surface. It says in one line which file, key or value it is about, why, and what to do; all
/// its causes are in that line. [`kind`](Self::kind) tells a program what it is about.
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

/// What the library's surface returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Of that kind, unless it is MLX that failed.
    pub(crate) fn new(kind: ErrorKind, cause: anyhow::Error) -> Self {
        let of_mlx = cause.chain().any(|cause| cause.is::<Exception>());
        let kind = if of_mlx { ErrorKind::Compute } else { kind };
        Self { kind, cause }
    }

    /// What it is about.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// Gives errors of the rooms below the surface their kind.
pub(crate) trait OfKind<T> {
    fn of_kind(self, kind: ErrorKind) -> Result<T>;
}

impl<T> OfKind<T> for anyhow::Result<T> {
    fn of_kind(self, kind: ErrorKind) -> Result<T> {
        self.map_err(|cause| Error::new(kind, cause))
    }
}

/// An error's own words. MLX adds where in its sources it stood, which helps nobody.
pub(crate) fn words(cause: &(dyn std::error::Error + 'static)) -> String {
    match cause.downcast_ref::<Exception>() {
        Some(exception) => exception.what().split(" at /").next().unwrap_or_default().to_owned(),
        None => cause.to_string(),
    }
}

/// An error and its causes in one line. Some libraries repeat their cause in their own words; here nothing is said twice.
pub(crate) fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(words) {
        if !line.contains(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause;
        }
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Display for Error {
    /// All of it: what failed, why, and what to do.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&line(&self.cause))
    }
}

impl Debug for Error {
    /// The same, since it is what a `main` that returns it prints.
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

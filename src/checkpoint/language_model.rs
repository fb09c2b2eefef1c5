//! From a checkpoint on disk to a model that continues texts, in one call.

use std::path::Path;

use super::{Checkpoint, runs};
use crate::error::{Error, ErrorKind, OfKind, Result};
use crate::generate::LanguageModel;

impl LanguageModel {
    /// The model of a checkpoint's folder, or of a run's newest checkpoint, once all of it is read and checked against its
    /// configuration and its recorded hashes.
    ///
    /// # Errors
    /// Nothing there, or a checkpoint that is damaged or of a kind that is not read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.exists() {
            let missing = anyhow::anyhow!(
                "there is no checkpoint at {}; give a run's folder or a checkpoint's",
                path.display()
            );
            return Err(Error::new(ErrorKind::NotFound, missing));
        }
        let checkpoint = runs::read(Some(path), Checkpoint::load).of_kind(ErrorKind::Checkpoint)?;
        Self::new(&checkpoint.model, &checkpoint.parameters, checkpoint.tokenizer)
    }
}

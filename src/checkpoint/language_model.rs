//! Loads a language model from a checkpoint on disk in one call.

use std::path::Path;

use super::{Checkpoint, runs};
use crate::error::{Error, ErrorKind, OfKind, Result};
use crate::generate::LanguageModel;

impl LanguageModel {
    /// Loads the model of a checkpoint's folder, or of a run's newest checkpoint, and checks it against its configuration and
    /// its recorded hashes.
    ///
    /// # Errors
    /// The path does not exist, or the checkpoint is damaged or of an unsupported kind.
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

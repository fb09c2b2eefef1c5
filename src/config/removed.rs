//! Configuration keys of earlier versions.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::TrainConfig;

/// Batches that grew over the first steps: the value of `batch_start` or `batch_ramp`. Files of earlier versions may have
/// them, and 0 means that they are not used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRamp(u64);

impl BatchRamp {
    /// Whether it is 0.
    pub fn is_unused(&self) -> bool {
        self.0 == 0
    }

    /// Rejects batches that grow.
    ///
    /// # Errors
    /// It is used, in the file or run that `origin` names; `hint` says what to do.
    pub fn ensure_unused(&self, origin: &str, hint: &str) -> Result<()> {
        ensure!(
            self.is_unused(),
            "{origin} has batch_start or batch_ramp, which this version does not support; {hint}"
        );
        Ok(())
    }
}

impl TrainConfig {
    /// Rejects batches that grow.
    ///
    /// # Errors
    /// As [`BatchRamp::ensure_unused`].
    pub fn ensure_no_batch_ramp(&self, origin: &str, hint: &str) -> Result<()> {
        self.batch_start.ensure_unused(origin, hint)?;
        self.batch_ramp.ensure_unused(origin, hint)
    }
}

//! Settings of earlier versions.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::TrainConfig;

/// Batches that grew over the first steps: the value of `batch_start` or `batch_ramp`. Files of earlier versions may have
/// them, and 0 means that they are not used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRamp(u64);

impl BatchRamp {
    pub fn is_unused(&self) -> bool {
        self.0 == 0
    }

    /// # Errors
    /// It is used, in the file or checkpoint that `place` names; `remedy` says what to do.
    pub fn ensure_unused(&self, place: &str, remedy: &str) -> Result<()> {
        ensure!(
            self.is_unused(),
            "{place} has batch_start or batch_ramp, and this version has no batches that grow; {remedy}"
        );
        Ok(())
    }
}

impl TrainConfig {
    /// # Errors
    /// As [`BatchRamp::ensure_unused`].
    pub fn ensure_no_batch_ramp(&self, place: &str, remedy: &str) -> Result<()> {
        self.batch_start.ensure_unused(place, remedy)?;
        self.batch_ramp.ensure_unused(place, remedy)
    }
}

//! The reference model of a run that is tuned by rewards or preferences: the model that it starts from, kept in the run's folder
//! `reference`, and identified in each checkpoint by the hash of its weights.

use anyhow::{Context, Result, ensure};

use super::run::Run;
use super::weights::WEIGHTS_FILE;
use super::{Checkpoint, base, state};
use crate::config::Precision;
use crate::disk::durable;

/// Keeps `model` in the run as its reference model, unless an earlier start of the run has kept it; gives the hash of its
/// weights.
///
/// # Errors
/// The disk is full or cannot be written.
pub fn keep(run: &Run, model: &Checkpoint) -> Result<String> {
    let folder = run.reference_folder();
    if !folder.is_dir() {
        durable::write_folder(&folder, |temp| {
            model.write_model(temp, Precision::Float32)?;
            state::write_imported(temp, &model.folder.display().to_string())
        })
        .with_context(|| format!("the reference model could not be kept in {}", folder.display()))?;
    }
    base::hash(&folder)
}

/// The reference model of a run, whose weights must have that hash.
///
/// # Errors
/// It is missing, damaged, or another model.
pub fn load(run: &Run, hash: &str) -> Result<Checkpoint> {
    let folder = run.reference_folder();
    ensure!(
        folder.is_dir(),
        "the reference model of the run is missing: {}; put back its folder, with {WEIGHTS_FILE} of SHA-256 {hash}",
        folder.display()
    );
    ensure!(
        base::hash(&folder)? == hash,
        "the weights in {} are not those of the reference model that the run is tuned from, whose SHA-256 is {hash}; put that model back",
        folder.display()
    );
    Checkpoint::load(&folder)
}

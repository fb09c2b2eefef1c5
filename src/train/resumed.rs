//! What a run was before it is resumed.

use anyhow::Result;

use crate::checkpoint::read_state;
use crate::checkpoint::run::Run;
use crate::config::TrainConfig;
use crate::terminal::shell::quoted;

/// `config`, starting from the base or the reference model that the run keeps, as the original may be gone.
pub fn with_run_base(run: &Run, config: &TrainConfig) -> TrainConfig {
    let base = match config.lora_rank {
        0 => run.reference_folder(),
        _ => run.base_folder(),
    };
    let kept = base.is_dir();
    TrainConfig {
        init_from: match kept {
            true => Some(base.to_string_lossy().into_owned()),
            false => config.init_from.clone(),
        },
        ..config.clone()
    }
}

/// The configuration that the run was trained with up to its newest checkpoint.
///
/// # Errors
/// A training state or a configuration that cannot be read.
pub fn last_trained_config(run: &Run) -> Result<TrainConfig> {
    let recorded = match run.newest_checkpoint() {
        Ok(folder) => read_state(&folder)?.config,
        Err(_) => None,
    };
    match recorded {
        Some(config) => Ok(config),
        None => run.config(),
    }
}

/// # Errors
/// The run has batches that grow, which no longer exist.
pub fn ensure_no_batch_ramp(run: &Run, config: &TrainConfig) -> Result<()> {
    config.ensure_no_batch_ramp(
        &format!("run {}", run.folder.display()),
        &format!(
            "start a new run from its weights with --init-from {}",
            quoted(&run.folder)
        ),
    )
}

/// Logs that a run without checkpoints restarts.
pub fn report_restart(run: &Run) {
    let folder = run.folder.display();
    match run.latest() {
        Some(latest) => log::warn!(
            "the checkpoints of run {folder} are gone ({} was the newest): it restarts at step 0",
            latest.display()
        ),
        None => log::info!("run {folder} has no checkpoint yet: it restarts at step 0"),
    }
}

//! What a run leaves on disk: its checkpoints, and which of them are kept.

use std::io;

use anyhow::Result;

use super::session::Session;
use super::together::Together;
use crate::checkpoint::{Checkpoint, CheckpointState, Moments};
use crate::config::{OnNan, TrainConfig};
use crate::disk::bytes::Bytes;
use crate::disk::durable;
use crate::disk::hint::hint;
use crate::terminal::shell::quoted;

/// Tokens of the sample that a checkpoint has.
pub(super) const SAMPLE_TOKENS: usize = 300;

impl Session {
    /// Saves a checkpoint of this step, unless there is one, and deletes those that are not kept.
    ///
    /// # Errors
    /// The disk is full or cannot be written.
    pub fn save(&mut self) -> Result<()> {
        let step = self.state.step;
        self.refresh_run_path()
            .and_then(|()| self.write_checkpoint())
            .map_err(|error| {
                let hint = hint(&error).unwrap_or("fix that");
                error.context(format!(
                    "step {step} could not be saved (last checkpoint: {}); {hint}, then resume with --resume {}",
                    self.last_checkpoint(),
                    quoted(&self.run.folder)
                ))
            })?;
        let (last, every) = (self.config.keep_last, self.config.keep_every);
        let best = self.saved.best.map(|best| best.step);
        let prune = || {
            self.run.clean()?; // what an earlier attempt could not remove
            self.run.prune_checkpoints(last, every, best)
        };
        // Once more, since a disk may fail once, and this may be the run's last save.
        if let Err(error) = prune().or_else(|_| prune()) {
            log::warn!("{error:#}; training continues");
        }
        Ok(())
    }

    /// Finds the run's folder again if it was renamed: its old name may belong to another run now.
    pub(super) fn refresh_run_path(&mut self) -> Result<()> {
        if let Some(old) = self.run.refresh_path()? {
            log::warn!(
                "run {} was renamed to {}; checkpoints are saved there from now on",
                old.display(),
                self.run.folder.display()
            );
        }
        Ok(())
    }

    fn write_checkpoint(&mut self) -> Result<()> {
        if self.run.steps()?.contains(&self.state.step) {
            return Ok(());
        }
        let (needed, free) = (self.checkpoint_bytes(), durable::free_space(&self.run.folder)?);
        if needed > free {
            let lacks = format!("it needs {}, and the disk has only {} left", Bytes(needed), Bytes(free));
            return Err(io::Error::new(io::ErrorKind::StorageFull, lacks).into());
        }
        let step = self.state.step;
        let evaluation = self.metrics.evaluation_at(step);
        if evaluation.is_none() {
            self.sample = match self.write_sample(SAMPLE_TOKENS) {
                // Weights that only skipped steps follow are saved all the same.
                Err(error) if self.config.on_nan == OnNan::Skip => {
                    log::warn!("step {step}: no sample can be generated: {error:#}");
                    String::new()
                }
                sample => sample?,
            };
        }
        let state = CheckpointState {
            config: Some(self.config.clone()),
            skipped: self.state.skipped,
            loss_scale: self.state.loss_scale,
            retry: self.state.retry,
            loss_level: self.state.loss_level,
            pace: self.pace_now(),
            ..self.saved.at_step(step, evaluation)
        };
        let checkpoint = Checkpoint {
            folder: self.run.step_folder(step),
            model: self.model.clone(),
            parameters: self.state.model_parameters(),
            tokenizer: self.tokenizer.clone(),
            chat_template: self.chat_template.clone(),
            // The run may have been renamed.
            base: self
                .base
                .as_ref()
                .map(|_| self.run.base_folder().canonicalize())
                .transpose()?,
        };
        let moments = Moments {
            m: self.state.m.clone(),
            v: self.state.v.clone(),
            apart: self.together.as_ref().and_then(Together::apart),
            pair_logprobs: self.learner.pair_logprobs(),
        };
        self.metrics.sync(&self.run)?;
        checkpoint.save(&moments, &state, &self.sample)?;
        self.saved = state;
        self.run.update_links(&self.saved)
    }

    /// The number of checkpoints that the run will leave from this step on, without the best one.
    pub fn checkpoints_left(&self) -> u64 {
        kept_checkpoints(&self.config, self.state.step, self.total_steps())
    }

    /// Size of a checkpoint on disk, without its small files: float32 weights (only the adapters', if there are any) and the
    /// moments of the trainable parameters.
    pub fn checkpoint_bytes(&self) -> u64 {
        let state = &self.state;
        let trainable = state.parameters.count();
        let saved = match self.base {
            Some(_) => trainable,
            None => trainable + state.frozen.count(),
        };
        4 * (saved + state.m.count() + state.v.count()) as u64
    }

    /// Describes the steps since the last checkpoint.
    pub(super) fn unsaved_steps(&self) -> String {
        match self.state.step - self.saved.step {
            0 => "nothing".into(),
            1 => "the last step".into(),
            steps => format!("the last {steps} steps"),
        }
    }

    /// The newest checkpoint's folder, for messages.
    pub(super) fn last_checkpoint(&self) -> String {
        self.run
            .newest_checkpoint()
            .map_or("none yet".into(), |folder| folder.display().to_string())
    }
}

/// The number of checkpoints that a run of `total` steps leaves from `step` on, without the best one.
fn kept_checkpoints(config: &TrainConfig, step: u64, total: u64) -> u64 {
    let all = total.div_ceil(config.save_every) - step / config.save_every;
    if config.keep_last == 0 {
        return all;
    }
    let every = [total, step].map(|step| step.checked_div(config.keep_every).unwrap_or(0));
    all.min(config.keep_last as u64 + every[0] - every[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Device;
    use crate::config::Preset;

    #[test]
    fn a_run_that_goes_on_between_two_checkpoints_leaves_both() {
        let config = |keep_last, keep_every| TrainConfig {
            steps: 25,
            save_every: 10,
            keep_last,
            keep_every,
            ..Preset::Nano.train_config(Device::Cpu)
        };
        assert_eq!(kept_checkpoints(&config(0, 0), 0, 25), 3); // after steps 10, 20 and 25
        assert_eq!(kept_checkpoints(&config(0, 0), 5, 25), 3);
        assert_eq!(kept_checkpoints(&config(0, 0), 10, 25), 2);
        assert_eq!(kept_checkpoints(&config(1, 20), 15, 25), 2);
        assert_eq!(kept_checkpoints(&config(0, 0), 40, 45), 1); // minutes that gave more steps than were planned at first
    }
}

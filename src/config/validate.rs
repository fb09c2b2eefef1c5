//! Validation of training configurations.

use anyhow::{Result, ensure};

use super::{Architecture, LINEAR_LAYERS, Lora, Optimizer, TrainConfig};

impl TrainConfig {
    /// Checks that every option is in range and fits the others, as far as that can be told without the corpus and the model
    /// that a run starts from: patterns of `freeze` and a vocabulary are checked where these are read.
    ///
    /// # Errors
    /// The first option that is not, by name, with a fix.
    pub fn validate(&self) -> Result<()> {
        self.validate_training()?;
        self.validate_task()?;
        self.validate_objective()?;
        self.validate_chat()?;
        // A model that is loaded has sizes of its own.
        if self.init_from.is_none() {
            self.model_config(1).validate()?; // of any vocabulary
        }
        Ok(())
    }

    fn validate_training(&self) -> Result<()> {
        for (name, value, most) in [
            ("steps", self.steps, u64::from(u32::MAX)),
            ("schedule-steps", self.schedule_steps(), u64::from(u32::MAX)),
            ("context", self.context as u64, 1 << 20),
            ("batch-size", self.batch_size as u64, 1 << 20),
            ("grad-accum", self.grad_accum as u64, 1 << 20),
            ("threads", self.threads as u64, 1024),
            ("eval-every", self.eval_every, i64::MAX as u64),
            ("eval-batches", self.eval_batches as u64, 1 << 20),
            ("save-every", self.save_every, i64::MAX as u64),
        ] {
            ensure!(value >= 1, "{name} is 0; it must be at least 1");
            ensure!(value <= most, "{name} is {value}; it can be at most {most}");
        }
        ensure!(
            self.batch_size * self.context * self.grad_accum <= i32::MAX as usize,
            "batch-size {} times context {} times grad-accum {} is more tokens than a step can hold; lower one of them",
            self.batch_size,
            self.context,
            self.grad_accum
        );
        ensure!(
            self.minutes.is_none_or(|minutes| (0.1..=1e6).contains(&minutes)),
            "minutes is {}; it must be a number from 0.1 to 1000000",
            self.minutes.unwrap_or_default()
        );
        self.ensure_no_batch_ramp("the configuration", "remove those lines from it")?;
        for (name, every) in [("eval-every", self.eval_every), ("save-every", self.save_every)] {
            ensure!(
                self.sync_every == 0 || every.is_multiple_of(self.sync_every),
                "{name} {every} is no multiple of sync-every {}, between which machines have no common model; choose {}",
                self.sync_every,
                every.next_multiple_of(self.sync_every)
            );
        }
        if self.lora_rank > 0 {
            ensure!(
                self.optimizer == Optimizer::Adamw,
                "optimizer muon does not support the adapters of lora-rank {}; choose --optimizer adamw",
                self.lora_rank
            );
            ensure!(
                self.init_from.is_some(),
                "lora-rank {} needs a model to adapt; give one with --init-from",
                self.lora_rank
            );
            ensure!(
                self.lora_alpha > 0.0 && self.lora_alpha.is_finite(),
                "lora-alpha is {}; it must be a number above 0",
                self.lora_alpha
            );
            ensure!(
                self.freeze.is_empty(),
                "freeze has no effect with lora-rank, which trains only the adapters; leave one of them out"
            );
            for target in &self.lora_targets {
                let lora = Lora {
                    targets: vec![target.clone()],
                    rank: self.lora_rank,
                    alpha: self.lora_alpha,
                };
                ensure!(
                    (0..self.layers).any(|layer| LINEAR_LAYERS
                        .iter()
                        .any(|linear| lora.targets_layer(&format!("h.{layer}.{linear}")))),
                    "lora-targets {target:?} is the name of no linear layer; they are c_attn, c_proj, c_fc, attn.c_proj, mlp.c_proj"
                );
            }
            ensure!(
                !self.lora_targets.is_empty(),
                "lora-targets is empty; leave it out for c_attn"
            );
        }
        ensure!(
            !self.recompute || matches!(self.arch, Architecture::Gpt2 | Architecture::Modern),
            "recompute is for the blocks of a transformer, and this arch has none; leave it out"
        );
        for (name, value) in [
            ("lr", self.lr),
            ("min-lr", self.min_lr),
            ("muon-lr", self.muon_lr),
            ("weight-decay", self.weight_decay),
            ("ngram_decay", self.ngram_decay),
            ("grad-clip", self.grad_clip),
        ] {
            ensure!(
                value >= 0.0 && value.is_finite(),
                "{name} is {value}; it must be a number, 0 or more"
            );
        }
        ensure!(
            self.min_lr <= self.lr,
            "min-lr {} is above lr {}; lower it",
            self.min_lr,
            self.lr
        );
        ensure!(
            self.decay_share > 0.0 && self.decay_share <= 1.0,
            "decay-share is {}; it must be above 0 and at most 1",
            self.decay_share
        );
        ensure!(
            (0.0..1.0).contains(&self.beta2),
            "beta2 {} is not from 0 up to, but not including, 1",
            self.beta2
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Device, Preset, TrainConfig};

    #[test]
    fn a_model_that_cannot_be_is_refused_unless_one_is_loaded() {
        let config = TrainConfig {
            heads: 3, // of an embd of 128
            ..Preset::Nano.train_config(Device::Cpu)
        };
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("heads 3 does not divide embd 128"), "{error}");
        let loaded = TrainConfig {
            init_from: Some("gpt2".into()),
            ..config
        };
        loaded.validate().unwrap();
    }
}

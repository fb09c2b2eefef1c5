//! Which options can change on resume.

use std::cmp::Ordering;

use anyhow::{Result, ensure};

use super::TrainConfig;

type Entries = serde_json::Map<String, serde_json::Value>;

/// Options that can change on resume. With any other, the run's history would contradict its config.toml.
const MUTABLE_ON_RESUME: &[&str] = &[
    "steps",
    "lr",
    "min_lr",
    "muon_lr",
    "warmup",
    "schedule",
    "schedule_steps",
    "decay_share",
    "weight_decay",
    "ngram_decay",
    "beta2",
    "grad_clip",
    "recompute",
    "device",
    "threads",
    "eval_every",
    "patience",
    "eval_batches",
    "save_every",
    "keep_last",
    "keep_every",
    "on_nan",
    "corpus",      // a path: the text itself is compared
    "chat",        // as corpus
    "preferences", // as corpus
    "tokenizer",   // a path: the tokenizer itself is compared
    "init_from",   // a path: read when the run starts, and again if it has no checkpoint yet
];

impl TrainConfig {
    /// The configuration of a resumed run that was trained with `before`: if `steps` changes and `schedule_steps` does not,
    /// the schedule still ends where it did.
    pub fn with_schedule_of(mut self, before: &Self) -> Self {
        if self.steps != before.steps && self.schedule_steps == before.schedule_steps {
            self.schedule_steps = Some(before.schedule_steps());
        }
        self
    }

    /// The differences from the configuration `before` that a run was trained with, one line each.
    ///
    /// # Errors
    /// An option that cannot change on resume.
    pub fn changes_since(&self, before: &Self) -> Result<Vec<String>> {
        let (old, new) = (before.entries()?, self.entries()?);
        let mut changes = Vec::new();
        for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
            let value = |entries: &Entries| entries.get(key).map_or("nothing".into(), serde_json::Value::to_string);
            let (before, now) = (value(&old), value(&new));
            if before == now {
                continue;
            }
            let option = key.replace('_', "-");
            ensure!(
                MUTABLE_ON_RESUME.contains(&key.as_str()),
                "{option} {now} cannot change on resume: the run was trained with {before}; leave it as it was, or start a new run with --init-from"
            );
            let schedule = match key.as_str() {
                "steps" => self.schedule_kept(),
                _ => String::new(),
            };
            changes.push(format!("{option} {before} is now {now}{schedule}"));
        }
        Ok(changes)
    }

    /// Explains a change of `steps` if the schedule does not end with them.
    fn schedule_kept(&self) -> String {
        let (steps, end) = (self.steps, self.schedule_steps());
        let how = match end.cmp(&steps) {
            Ordering::Equal => return String::new(),
            Ordering::Less => format!("later steps use min-lr, {}", self.min_lr),
            Ordering::Greater => "so the learning rate does not reach min-lr".into(),
        };
        format!("; the schedule still ends at step {end}, {how} (--schedule-steps {steps} would end it with the run)")
    }

    /// The values by key, with numbers as in config.toml.
    fn entries(&self) -> Result<Entries> {
        let all = Self {
            schedule_steps: Some(self.schedule_steps()),
            ..self.clone()
        };
        Ok(serde_json::from_str(&serde_json::to_string(&all)?)?)
    }
}

//! What may change when a run is resumed.

use std::cmp::Ordering;

use anyhow::{Result, ensure};

use super::TrainConfig;

type Entries = serde_json::Map<String, serde_json::Value>;

/// Settings that may change when a run is resumed. With others, its past would not be what its configuration says.
const MAY_CHANGE: &[&str] = &[
    "steps",
    "lr",
    "min_lr",
    "muon_lr",
    "warmup",
    "schedule",
    "schedule_steps",
    "decay_share",
    "weight_decay",
    "beta2",
    "grad_clip",
    "recompute",
    "device",
    "threads",
    "eval_every",
    "eval_batches",
    "save_every",
    "keep_last",
    "keep_every",
    "on_nan",
    "corpus",    // its text is compared
    "tokenizer", // its contents are compared
    "init_from", // read once, when the run starts
];

impl TrainConfig {
    /// The configuration of a run that is resumed, trained with `before` so far: for another number of steps it keeps its
    /// schedule, unless that is changed as well.
    pub fn with_schedule_of(mut self, before: &Self) -> Self {
        if self.steps != before.steps && self.schedule_steps == before.schedule_steps {
            self.schedule_steps = Some(before.schedule_steps());
        }
        self
    }

    /// What differs from the settings that a run was trained with `before`, a line each.
    ///
    /// # Errors
    /// A setting that cannot change when a run is resumed.
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
                MAY_CHANGE.contains(&key.as_str()),
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

    /// What another number of steps means, in words, where the schedule does not end with them.
    fn schedule_kept(&self) -> String {
        let (steps, end) = (self.steps, self.schedule_steps());
        let how = match end.cmp(&steps) {
            Ordering::Equal => return String::new(),
            Ordering::Less => format!("the steps after it train at the lowest rate, {}", self.min_lr),
            Ordering::Greater => "the rate does not come down to its lowest".into(),
        };
        format!("; the schedule still ends at step {end}, {how} (--schedule-steps {steps} would end it with the run)")
    }

    /// Key by key, with numbers as a person writes them.
    fn entries(&self) -> Result<Entries> {
        let all = Self {
            schedule_steps: Some(self.schedule_steps()),
            ..self.clone()
        };
        Ok(serde_json::from_str(&serde_json::to_string(&all)?)?)
    }
}

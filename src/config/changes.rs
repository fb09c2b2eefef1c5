//! What may differ in a run that goes on.

use anyhow::{Result, ensure};

use super::TrainConfig;

type Entries = serde_json::Map<String, serde_json::Value>;

/// Settings that a run that goes on may change; the others would silently make it another run.
const MAY_CHANGE: [&str; 21] = [
    "steps",
    "lr",
    "min_lr",
    "muon_lr",
    "warmup",
    "schedule",
    "decay_share",
    "weight_decay",
    "beta2",
    "grad_clip",
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
    "init_from", // read once, at the beginning
];

impl TrainConfig {
    /// What differs from the settings that a run was trained with `before`, a line each.
    ///
    /// # Errors
    /// A setting that cannot change without making another run of it.
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
                "--{option} {now} would make another run of it, which was trained with {before}; leave that as it was, or start a new run with --init-from"
            );
            changes.push(format!("{option} {before} is now {now}"));
        }
        Ok(changes)
    }

    /// Key by key, with numbers as a person writes them.
    fn entries(&self) -> Result<Entries> {
        Ok(serde_json::from_str(&serde_json::to_string(self)?)?)
    }
}

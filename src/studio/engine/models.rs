//! The models in memory: a few at a time, the least recently used makes room.

use std::cell::{Cell, OnceCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::checkpoint::{Checkpoint, WEIGHTS_FILE};
use crate::generate::Generator;
use crate::model::Model;

/// Models that are in memory at once: two side by side, and two more that were looked at before.
const SLOTS: usize = 4;

/// A checkpoint in memory, ready to generate and to be looked into.
pub struct Loaded {
    /// Its configuration, weights and tokenizer.
    pub checkpoint: Checkpoint,
    /// Continues token sequences.
    pub generator: Generator,
    /// The network over the same weights, for forward passes with hooks.
    pub model: Model,
}

/// What tells one checkpoint from another that is written to the same path later.
#[derive(Clone, PartialEq)]
struct Key {
    folder: PathBuf,
    written: Option<SystemTime>,
}

#[derive(Default)]
struct Slot {
    model: OnceCell<(Key, Loaded)>,
    /// The number of the last request that used it.
    used: Cell<u64>,
}

/// A fixed number of places for models. They are filled through a shared reference, so that generations can borrow one model
/// while another is loaded, and are emptied when nothing borrows them.
#[derive(Default)]
pub struct Models {
    slots: [Slot; SLOTS],
    requests: Cell<u64>,
}

/// Why there is no model.
pub enum Missing {
    /// All places are taken.
    Full,
    /// It cannot be loaded.
    Failed(anyhow::Error),
}

impl Loaded {
    fn load(folder: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::load(folder)?;
        Ok(Self {
            generator: checkpoint.generator()?,
            model: Model::new(&checkpoint.model, &checkpoint.parameters)?,
            checkpoint,
        })
    }
}

impl Models {
    /// The model of a checkpoint's folder, loaded unless it is there already.
    ///
    /// # Errors
    /// No room for another, or a checkpoint that cannot be loaded.
    pub fn get_or_load(&self, folder: &Path) -> Result<&Loaded, Missing> {
        let key = Key {
            folder: folder.to_owned(),
            written: fs::metadata(folder.join(WEIGHTS_FILE))
                .and_then(|file| file.modified())
                .ok(),
        };
        self.requests.set(self.requests.get() + 1);
        let of_key = |slot: &&Slot| slot.model.get().is_none_or(|(other, _)| *other == key);
        // The slots fill in order, so that the model comes before the first empty slot.
        let slot = self.slots.iter().find(of_key).ok_or(Missing::Full)?;
        slot.used.set(self.requests.get());
        if let Some((_, loaded)) = slot.model.get() {
            return Ok(loaded);
        }
        let loaded = Loaded::load(folder).map_err(Missing::Failed)?;
        Ok(&slot.model.get_or_init(|| (key, loaded)).1)
    }

    /// Drops the least recently used model if no place is free.
    pub fn make_room(&mut self) {
        if self.slots.iter().all(|slot| slot.model.get().is_some()) {
            self.slots.sort_by_key(|slot| std::cmp::Reverse(slot.used.get()));
            self.slots[SLOTS - 1] = Slot::default();
        }
    }
}

/// The newest checkpoint that a path stands for, named so that errors say which.
///
/// # Errors
/// There is none.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    crate::checkpoint::runs::find_checkpoint(Some(path)).with_context(|| format!("model {}", path.display()))
}

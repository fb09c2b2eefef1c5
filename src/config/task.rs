//! Tasks: problems that are made on the fly instead of read from a text.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::TrainConfig;

/// A task whose problems are made on the fly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Sums of two numbers of up to --digits digits
    Addition,
    /// Sums, differences, products and quotients, with written working
    Calculator,
}

/// Digits of the numbers to add, unless told otherwise.
const DEFAULT_DIGITS: usize = 3;
/// The sum of two numbers of so many digits fits into 64 bits.
const MAX_DIGITS: usize = 18;

impl Task {
    /// Its name in configurations and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Calculator => "calculator",
        }
    }

    /// Inputs of the longest problem: all of its characters and the new line at its end but the last, which is only predicted.
    pub fn context(self, digits: usize) -> usize {
        match self {
            Self::Addition => 3 * digits + 3, // a + b = sum, of one digit more
            Self::Calculator => CALCULATOR_CONTEXT,
        }
    }
}

/// The largest product of three digits by two, with its working.
const CALCULATOR_CONTEXT: usize = 124;

impl TrainConfig {
    /// Trains on a task, with the context, the steps and the batches that it is learned with.
    pub fn with_task(mut self, task: Task) -> Self {
        self.set_task(task, None, true);
        self
    }

    /// Selects a task, with a context that its longest problem just fits into. With `recipe`, sizes and steps are those that
    /// it is learned with.
    pub(super) fn set_task(&mut self, task: Task, digits: Option<usize>, recipe: bool) {
        self.task = Some(task);
        self.corpus.clear();
        self.tokenizer = "char".into();
        self.mask_prompt = Some(true);
        if task == Task::Addition {
            (self.digits, self.reverse_digits) = (digits.or(Some(DEFAULT_DIGITS)), Some(true));
        }
        // Checked by `validate`; until then any number must be harmless.
        self.context = task.context(self.digits().min(MAX_DIGITS));
        if recipe {
            match task {
                Task::Addition => (self.steps, self.batch_size) = (2000, 64),
                Task::Calculator => {
                    (self.steps, self.batch_size) = (6000, 16);
                    (self.eval_every, self.save_every) = (500, 500);
                }
            }
        }
    }

    /// Digits of the numbers that task addition adds.
    pub fn digits(&self) -> usize {
        self.digits.unwrap_or(DEFAULT_DIGITS)
    }

    pub(super) fn validate_task(&self) -> Result<()> {
        let Some(task) = self.task else {
            for (key, is_set) in [
                ("digits", self.digits.is_some()),
                ("reverse-digits", self.reverse_digits.is_some()),
                ("mask_prompt", self.mask_prompt.is_some()),
            ] {
                ensure!(
                    !is_set,
                    "{key} is for a task; give --task addition too, or leave {key} out"
                );
            }
            return Ok(());
        };
        let name = task.name();
        ensure!(
            self.sync_every == 0,
            "task {name} is trained with a sum over all machines in each step; leave out sync-every {} or --task",
            self.sync_every
        );
        ensure!(
            self.corpus.is_empty(),
            "task {name} makes its problems itself and reads no text; leave out corpus {} or --task",
            self.corpus
        );
        if task == Task::Calculator {
            ensure!(
                self.digits.is_none() && self.reverse_digits.is_none(),
                "digits and reverse-digits are for task addition; leave them out"
            );
        }
        ensure!(
            (1..=MAX_DIGITS).contains(&self.digits()),
            "digits is {}; it must be from 1 to {MAX_DIGITS}",
            self.digits()
        );
        let needed = task.context(self.digits());
        ensure!(
            self.context >= needed,
            "context {} is too short for the longest problem of task {name}; choose --context {needed} or more",
            self.context
        );
        Ok(())
    }
}

//! Results of a lesson's model: `lesson.json` in its run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Recipe;
use super::workspace::Workspace;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::run::Run;
use crate::disk::durable;
use crate::train::metrics::{self, Record};

const FILE: &str = "lesson.json";

/// Characters of the sample that a table shows.
const SAMPLE: usize = 200;

/// The results of a day's model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Name of the model.
    pub what: String,
    /// Number of parameters.
    pub parameters: usize,
    /// Training steps.
    pub steps: u64,
    /// Time of the steps, without evaluation and saving.
    pub seconds: f64,
    /// Exact, on the validation text, in nats per token.
    pub val_loss: f64,
    /// The same in bits per byte of text.
    pub bits_per_byte: f64,
    /// A completion of a line break.
    pub sample: String,
}

impl Results {
    /// Measures the results of a recipe's model.
    pub(super) fn of(workspace: &Workspace, recipe: &Recipe) -> Result<Self> {
        let run = Run::open(&workspace.folder(recipe.folder))?;
        let checkpoint = Checkpoint::load(&run.newest_checkpoint()?)?;
        let (val_loss, bits_per_byte) = workspace.measure(&checkpoint)?;
        let config = run.config()?;
        let tokens = config.tokens_per_step() as f64;
        let (mut before, mut seconds) = (0, 0.0);
        for line in metrics::read(&run)? {
            if let Record::Step(line) = line {
                seconds += (line.step - before) as f64 * tokens / line.tokens_per_second;
                before = line.step;
            }
        }
        Ok(Self {
            what: recipe.what.into(),
            parameters: checkpoint.parameters.count(),
            steps: before,
            seconds,
            val_loss,
            bits_per_byte,
            sample: workspace.sample(&checkpoint, "\n", SAMPLE)?,
        })
    }

    /// The results that a day left in its run's folder.
    ///
    /// # Errors
    /// There are none, or they cannot be read.
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join(FILE);
        let text =
            fs::read(&path).with_context(|| format!("{} cannot be read; run the lesson again", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged; run the lesson again", path.display()))
    }

    pub(super) fn write(&self, run: &Path) -> Result<()> {
        durable::write_file(&run.join(FILE), serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// A few lines for a chapter.
    pub fn summary(&self) -> String {
        format!(
            "{}: {} parameters, {} steps in {:.0} s\nvalidation loss {:.4} nats per token, {:.4} bits per byte\n\n{}\n",
            self.what,
            self.parameters,
            self.steps,
            self.seconds,
            self.val_loss,
            self.bits_per_byte,
            self.sample.trim_matches('\n')
        )
    }
}

//! `metrics.jsonl`: a line per logged step and a line per evaluation, readable while the run goes on; also one for each
//! step that was skipped, and one where a run was resumed with other settings.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Losses;
use crate::checkpoint::run::Run;
use crate::disk::durable;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Evaluation(EvaluationLine),
    Step(StepLine),
    NotFinite(NotFiniteLine),
    Changes(ChangesLine),
}

/// A logged step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Optimizer steps done, this one included.
    pub step: u64,
    /// Of the step's batch before the update, in nats per token.
    pub loss: f32,
    pub lr: f32,
    /// Before clipping.
    pub grad_norm: f32,
    /// Since the line before, without evaluation and saving.
    pub tokens_per_second: f64,
    /// Bytes that MLX holds, its cache of free buffers included.
    pub memory: usize,
}

/// Losses of the model after `step` steps, estimated from batches spread over either split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationLine {
    pub step: u64,
    pub train_loss: f64,
    pub val_loss: f64,
}

/// A step whose loss or gradients were not finite, with what identifies its batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotFiniteLine {
    pub step: u64,
    /// `loss` and `grad_norm` in words, as JSON has no number for them: `NaN`, `inf`.
    pub not_finite: String,
    pub seed: u64,
    /// Where the batch's rows begin in the training tokens.
    pub rows: Vec<usize>,
}

/// Settings that changed when the run was resumed after `step` steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangesLine {
    pub step: u64,
    pub changes: Vec<String>,
}

impl Line {
    /// Whether it was logged before a checkpoint at `step`; nothing was, if there is none. Changes at that very step were made
    /// by a process that got no further.
    fn precedes_checkpoint(&self, step: u64) -> bool {
        step > 0
            && match self {
                Self::Step(line) => line.step <= step,
                Self::Evaluation(line) => line.step <= step,
                Self::NotFinite(line) => line.step <= step,
                Self::Changes(line) => line.step < step,
            }
    }
}

/// The metrics of a run so far, in memory and on disk.
pub struct Metrics {
    path: PathBuf,
    file: File,
    lines: Vec<Line>,
    /// The file lacks lines, since writing one failed.
    incomplete: bool,
}

impl Metrics {
    /// Opens the run's metrics and cuts off what was logged after `step`, which is done again.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(run: &Run, step: u64) -> Result<Self> {
        let path = run.metrics_path();
        let text = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        // A process that died may have left half a line; it is of a step that is done again.
        let parsed = text
            .lines()
            .filter_map(|line| Some((line, serde_json::from_str::<Line>(line).ok()?)));
        let (kept, lines): (Vec<&str>, Vec<Line>) = parsed.filter(|(_, line)| line.precedes_checkpoint(step)).unzip();
        let cut: String = kept.iter().map(|line| format!("{line}\n")).collect();
        if cut != text || text.is_empty() {
            durable::write_file(&path, cut.as_bytes())?;
        }
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self {
            path,
            file,
            lines,
            incomplete: false,
        })
    }

    /// Appends a line, at once and whole. A disk that is full is no reason to stop a run: what could not be written is
    /// written by the next [`sync`](Self::sync) that can.
    pub fn log(&mut self, line: Line) -> Result<()> {
        let text = serde_json::to_string(&line)? + "\n";
        self.incomplete = self.incomplete || self.file.write_all(text.as_bytes()).is_err();
        self.lines.push(line);
        Ok(())
    }

    /// Flushes to disk: a checkpoint never outlives the lines before it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn sync(&mut self) -> Result<()> {
        let failed = || format!("{} cannot be written", self.path.display());
        if self.incomplete {
            let lines: Vec<String> = self.lines.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
            durable::write_file(&self.path, (lines.join("\n") + "\n").as_bytes())?;
            self.file = OpenOptions::new().append(true).open(&self.path).with_context(failed)?;
            self.incomplete = false;
        }
        self.file.sync_data().with_context(failed)
    }

    /// The losses of an evaluation after `step` steps, if there was one.
    pub fn evaluation_at(&self, step: u64) -> Option<Losses> {
        let line = self.evaluations().last().filter(|line| line.step == step)?;
        Some(Losses {
            train: line.train_loss,
            val: line.val_loss,
        })
    }

    pub fn steps(&self) -> impl Iterator<Item = &StepLine> {
        self.lines.iter().filter_map(|line| match line {
            Line::Step(line) => Some(line),
            _ => None,
        })
    }

    pub fn evaluations(&self) -> impl Iterator<Item = &EvaluationLine> {
        self.lines.iter().filter_map(|line| match line {
            Line::Evaluation(line) => Some(line),
            _ => None,
        })
    }
}

/// The complete lines of a run's metrics.
///
/// # Errors
/// The file cannot be read.
pub fn read(run: &Run) -> Result<Vec<Line>> {
    let path = run.metrics_path();
    let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

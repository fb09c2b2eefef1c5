//! `metrics.jsonl`: a line per logged step and a line per evaluation, readable while the run goes on.

use std::fs::{File, OpenOptions};
use std::io::Write;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Losses;
use crate::checkpoint::run::Run;

/// A line of the file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Evaluation(EvaluationLine),
    Step(StepLine),
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
    /// Since the line before; evaluation and saving left out.
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

impl Line {
    fn step(&self) -> u64 {
        match self {
            Self::Step(line) => line.step,
            Self::Evaluation(line) => line.step,
        }
    }
}

/// The metrics of a run so far, in memory and on disk.
pub struct Metrics {
    file: File,
    lines: Vec<Line>,
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
        let (kept, lines): (Vec<&str>, Vec<Line>) = parsed.filter(|(_, line)| line.step() <= step).unzip();
        run.write_file(
            &path,
            kept.iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>()
                .as_bytes(),
        )?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self { file, lines })
    }

    /// Appends a line, at once and whole.
    pub fn log(&mut self, line: Line) -> Result<()> {
        let text = serde_json::to_string(&line)? + "\n";
        self.file
            .write_all(text.as_bytes())
            .context("metrics.jsonl cannot be written")?;
        self.lines.push(line);
        Ok(())
    }

    /// Flushes to disk: a checkpoint never outlives the lines before it.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().context("metrics.jsonl cannot be written")
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
            Line::Evaluation(_) => None,
        })
    }

    pub fn evaluations(&self) -> impl Iterator<Item = &EvaluationLine> {
        self.lines.iter().filter_map(|line| match line {
            Line::Evaluation(line) => Some(line),
            Line::Step(_) => None,
        })
    }
}

/// The lines of a run's metrics, as far as they are whole.
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

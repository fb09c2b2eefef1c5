//! `metrics.jsonl`: a line per logged step, per evaluation, per non-finite step, per loss spike, and per resume with changed options;
//! readable during the run.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Losses;
use crate::checkpoint::run::Run;
use crate::disk::{durable, files};

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Record {
    /// Of an evaluation.
    Evaluation(EvaluationRecord),
    /// Of a logged step.
    Step(StepRecord),
    /// Of a step whose loss or gradients were not finite.
    NotFinite(NonFiniteRecord),
    /// Of a resume with changed options.
    Changes(ChangesRecord),
    /// Of a return to an earlier checkpoint.
    Spike(SpikeRecord),
}

/// A logged step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Optimizer steps done, this one included.
    pub step: u64,
    /// Of the step's batch before the update, in nats per token.
    pub loss: f32,
    /// Learning rate of the step.
    pub lr: f32,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f32,
    /// Since the previous line, excluding evaluation and saving.
    pub tokens_per_second: f64,
    /// Bytes that MLX holds, its cache of free buffers included.
    pub memory: usize,
    /// What an objective tells beside its loss.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveRecord>,
}

/// What an objective tells of a step beside its loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ObjectiveRecord {
    /// Of GRPO.
    Grpo(GrpoRecord),
    /// Of DPO.
    Dpo(DpoRecord),
}

/// How the answers were that a step sampled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswersRecord {
    /// Mean reward: the fraction of right answers.
    pub reward: f32,
    /// Mean of the groups' standard deviations of rewards.
    pub reward_std: f32,
    /// Fraction of the groups whose answers all have one reward, which have no gradient but that of the KL divergence.
    pub equal_groups: f32,
    /// Estimated from the answers: the mean of -log π over their tokens, in nats.
    pub entropy: f32,
    /// Mean length of an answer, in tokens.
    pub answer_tokens: f32,
}

/// Of a step of GRPO; means over tokens are means over answers of the mean of their tokens, as in its loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrpoRecord {
    /// Of the sampled answers.
    #[serde(flatten)]
    pub answers: AnswersRecord,
    /// KL divergence from the reference model, in nats per token (Schulman's k3).
    pub kl: f32,
    /// Fraction of tokens whose ratio is clipped.
    pub clip_fraction: f32,
}

/// Of a step of DPO, with trl's names: means over pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DpoRecord {
    /// β · log(π / π_ref) of the chosen answers.
    #[serde(rename = "rewards/chosen")]
    pub chosen_reward: f32,
    /// Of the rejected answers.
    #[serde(rename = "rewards/rejected")]
    pub rejected_reward: f32,
    /// Their difference.
    #[serde(rename = "rewards/margins")]
    pub margin: f32,
    /// Fraction of pairs whose chosen answer has the higher reward.
    #[serde(rename = "rewards/accuracies")]
    pub accuracy: f32,
    /// Log-probability of the chosen answers, in nats.
    #[serde(rename = "logps/chosen")]
    pub chosen_logprob: f32,
    /// Of the rejected answers.
    #[serde(rename = "logps/rejected")]
    pub rejected_logprob: f32,
}

impl ObjectiveRecord {
    /// From the terms of a step's loss, in their order, and from what is known of its answers, if it sampled any.
    pub fn new(answers: Option<AnswersRecord>, terms: &[f32]) -> Option<Self> {
        match (answers, terms) {
            (Some(answers), &[kl, clip_fraction]) => Some(Self::Grpo(GrpoRecord {
                answers,
                kl,
                clip_fraction,
            })),
            (
                None,
                &[
                    chosen_reward,
                    rejected_reward,
                    accuracy,
                    chosen_logprob,
                    rejected_logprob,
                ],
            ) => Some(Self::Dpo(DpoRecord {
                chosen_reward,
                rejected_reward,
                margin: chosen_reward - rejected_reward,
                accuracy,
                chosen_logprob,
                rejected_logprob,
            })),
            _ => None,
        }
    }
}

/// Losses of the model after `step` steps, in nats per token, estimated from evenly spaced batches of each split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Optimizer steps done.
    pub step: u64,
    /// On the training split.
    pub train_loss: f64,
    /// On the validation split.
    pub val_loss: f64,
    /// The fraction of held-out problems that are solved, for a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

/// A step whose loss or gradients were not finite, with what is needed to reproduce its batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NonFiniteRecord {
    /// The step's number, from 1.
    pub step: u64,
    /// `loss` and `grad_norm` as text, since JSON has no number for them: `NaN`, `inf`.
    pub not_finite: String,
    /// The run's seed.
    pub seed: u64,
    /// Offsets of the batch's rows in the training tokens.
    pub rows: Vec<usize>,
}

/// Options that changed on a resume at `step`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangesRecord {
    /// Optimizer steps done before.
    pub step: u64,
    /// A message for each option.
    pub changes: Vec<String>,
}

/// A return to the checkpoint at `step`, because the loss had left its level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpikeRecord {
    /// Optimizer steps of the checkpoint.
    pub step: u64,
    /// The step at which the spike was noticed.
    pub spike_at: u64,
    /// Loss of that step.
    pub loss: f32,
    /// Mean of the losses before.
    pub usual_loss: f32,
}

impl Record {
    /// Whether the line belongs to the history up to a checkpoint at `step`; at step 0 none does.
    /// Changes at exactly `step` come from a resume that saved nothing; a return to it is repeated.
    fn precedes_checkpoint(&self, step: u64) -> bool {
        step > 0
            && match self {
                Self::Step(line) => line.step <= step,
                Self::Evaluation(line) => line.step <= step,
                Self::NotFinite(line) => line.step <= step,
                Self::Changes(line) => line.step < step,
                Self::Spike(line) => line.step < step,
            }
    }
}

/// The metrics of a run so far, in memory and on disk.
pub struct Metrics {
    file: File,
    lines: Vec<Record>,
    /// The file lacks lines, because a write failed.
    incomplete: bool,
}

impl Metrics {
    /// Opens the run's metrics and truncates lines after `step`; those steps are computed again.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(run: &Run, step: u64) -> Result<Self> {
        let path = run.metrics_path();
        let text = match path.exists() {
            true => read_text(&path)?,
            false => String::new(),
        };
        // A process that died may have left an incomplete line, of a step that is computed again.
        let parsed = text
            .lines()
            .filter_map(|line| Some((line, serde_json::from_str::<Record>(line).ok()?)));
        let (kept, lines): (Vec<&str>, Vec<Record>) = parsed.filter(|(_, line)| line.precedes_checkpoint(step)).unzip();
        let cut: String = kept.iter().map(|line| format!("{line}\n")).collect();
        if cut != text || text.is_empty() {
            durable::write_file(&path, cut.as_bytes())?;
        }
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self {
            file,
            lines,
            incomplete: false,
        })
    }

    /// Appends a line in one write. A full disk does not stop a run: lines that could not be written are written by the next
    /// successful [`sync`](Self::sync).
    ///
    /// # Errors
    /// The line cannot be written as JSON.
    pub fn log(&mut self, line: Record) -> Result<()> {
        let text = serde_json::to_string(&line)? + "\n";
        self.incomplete = self.incomplete || self.file.write_all(text.as_bytes()).is_err();
        self.lines.push(line);
        Ok(())
    }

    /// Flushes to disk, before a checkpoint is saved: no checkpoint is without the lines before it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn sync(&mut self, run: &Run) -> Result<()> {
        let path = run.metrics_path();
        let failed = || format!("{} cannot be written", path.display());
        if self.incomplete {
            let lines: Vec<String> = self.lines.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
            durable::write_file(&path, (lines.join("\n") + "\n").as_bytes())?;
            self.file = OpenOptions::new().append(true).open(&path).with_context(failed)?;
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

    /// The lines of logged steps.
    pub fn steps(&self) -> impl Iterator<Item = &StepRecord> {
        self.lines.iter().filter_map(|line| match line {
            Record::Step(line) => Some(line),
            _ => None,
        })
    }

    /// The lines of resumes with changed options.
    pub fn changes(&self) -> impl Iterator<Item = &ChangesRecord> {
        self.lines.iter().filter_map(|line| match line {
            Record::Changes(line) => Some(line),
            _ => None,
        })
    }

    /// The lines of evaluations.
    pub fn evaluations(&self) -> impl Iterator<Item = &EvaluationRecord> {
        self.lines.iter().filter_map(|line| match line {
            Record::Evaluation(line) => Some(line),
            _ => None,
        })
    }
}

/// The text of the file. Its length has no bound: a run may have any number of steps.
fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    files::open(path)
        .and_then(|mut file| Ok(file.read_to_end(&mut bytes)?))
        .with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines of a run's metrics, without those that are no record, as an incomplete last one.
///
/// # Errors
/// The file cannot be read.
pub fn read(run: &Run) -> Result<Vec<Record>> {
    Ok(read_text(&run.metrics_path())?
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

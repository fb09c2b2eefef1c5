//! Results of a lesson's model: `lesson.json` in its run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::workspace::Workspace;
use super::world;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::run::Run;
use crate::data::tasks::TaskData;
use crate::disk::durable;
use crate::evaluate::task::{Answers, Score};
use crate::train::metrics::{self, Record};

const FILE: &str = "lesson.json";

/// Characters of the sample that a table shows.
const SAMPLE: usize = 200;

/// Problems of a task among the sample.
const SAMPLE_PROBLEMS: usize = 6;

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
    /// Exact, on the validation text or the answers of the test, in nats per token; of a task, that of the last evaluation, on
    /// held-out problems.
    pub val_loss: f64,
    /// The same in bits per byte of text.
    pub bits_per_byte: f64,
    /// A completion of a line break; of a task, held-out problems with the model's answers.
    pub sample: String,
    /// Of a task or of conversations: how many held-out problems are solved.
    #[serde(default)]
    pub accuracy: Option<Accuracy>,
}

/// How many held-out problems of a task a model solves, or last questions of conversations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Of all.
    pub total: Score,
    /// Of each category, such as the number of carries or the kind of question.
    pub categories: Vec<(String, Score)>,
}

impl Accuracy {
    /// A model's accuracy, and some of its answers.
    ///
    /// # Errors
    /// A tokenizer without the task's characters, or an error of MLX's.
    pub fn of(checkpoint: &Checkpoint, task: &TaskData, problems: usize) -> Result<(Self, String)> {
        let generator = checkpoint.generator()?;
        let answers = Answers::of(&generator, &checkpoint.tokenizer, task.held_out(problems), |_| ())?;
        let categories = answers.by_category().into_iter();
        let accuracy = Self {
            total: answers.score(),
            categories: categories.map(|(name, score)| (name.to_string(), score)).collect(),
        };
        Ok((accuracy, answers.sample(SAMPLE_PROBLEMS)))
    }
}

impl Results {
    /// Measures the results of the run in that folder, whose model is called `what`.
    pub(super) fn of(workspace: &Workspace, folder: &str, what: &str) -> Result<Self> {
        let run = Run::open(&workspace.folder(folder))?;
        let checkpoint = Checkpoint::load(&run.newest_checkpoint()?)?;
        let config = run.config()?;
        let tokens = config.tokens_per_step() as f64;
        let (mut before, mut seconds, mut last_loss) = (0, 0.0, f64::NAN);
        for line in metrics::read(&run)? {
            match line {
                Record::Step(line) => {
                    seconds += (line.step - before) as f64 * tokens / line.tokens_per_second;
                    before = line.step;
                }
                Record::Evaluation(line) => last_loss = line.val_loss,
                _ => {}
            }
        }
        let of_answers = |loss, accuracy, sample| ((loss, loss / std::f64::consts::LN_2), Some(accuracy), sample);
        let ((val_loss, bits_per_byte), accuracy, sample) = match (TaskData::of_config(&config)?, &config.chat) {
            (None, Some(_)) => {
                let world = world::Answers::of(&checkpoint, workspace.problems())?;
                of_answers(world.loss, world.accuracy, world.sample)
            }
            (None, None) => (
                workspace.measure(&checkpoint)?,
                None,
                workspace.sample(&checkpoint, "\n", SAMPLE)?,
            ),
            (Some(task), _) => {
                let (accuracy, sample) = Accuracy::of(&checkpoint, &task, workspace.problems())?;
                of_answers(last_loss, accuracy, sample)
            }
        };
        Ok(Self {
            what: what.into(),
            parameters: checkpoint.parameters.count(),
            steps: before,
            seconds,
            val_loss,
            bits_per_byte,
            sample,
            accuracy,
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
        let measured = match &self.accuracy {
            None => format!(
                "validation loss {:.4} nats per token, {:.4} bits per byte",
                self.val_loss, self.bits_per_byte
            ),
            Some(Accuracy { total, .. }) => format!(
                "accuracy {:.4}: {} of {} unseen problems; validation loss {:.4} nats per character of an answer",
                total.accuracy(),
                total.correct,
                total.problems,
                self.val_loss
            ),
        };
        format!(
            "{}: {} parameters, {} steps in {:.0} s\n{measured}\n\n{}\n",
            self.what,
            self.parameters,
            self.steps,
            self.seconds,
            self.sample.trim_matches('\n')
        )
    }
}

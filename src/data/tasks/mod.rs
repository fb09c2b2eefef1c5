//! Problems made on the fly, for [`Task`]s: each a text `prompt answer new line`, of a fixed vocabulary of characters.
//!
//! A problem in ten is held out: it is never trained on. Which ones is a hash of the problem alone, so that it does not
//! depend on the seed; `a+b` and `b+a` are one problem.
//!
//! ```
//! use mlx_gpt::config::{ConfigOverrides, Device};
//! use mlx_gpt::data::batches::step_rng;
//! use mlx_gpt::data::tasks::{Part, TaskData};
//!
//! let file: ConfigOverrides = toml::from_str("task = 'addition'\ndigits = 3")?;
//! let (config, _) = ConfigOverrides::default().resolve(&file, None, Device::Cpu, None)?;
//! let task = TaskData::of_config(&config)?.ok_or_else(|| anyhow::anyhow!("no task"))?;
//! let problem = task.sample(&mut step_rng(1337, 0), Part::Train);
//! println!("{}{}", problem.prompt, problem.answer); // such as 123+456=975: the sum begins with its last digit
//! # Ok::<(), anyhow::Error>(())
//! ```

mod addition;
pub mod calculator;
mod rows;
mod split;

use std::collections::HashSet;
use std::fmt::{self, Display, Formatter};

use anyhow::Result;
use rand_chacha::ChaCha8Rng;

use super::batches::step_rng;
use crate::config::{Task, TrainConfig};
use crate::tokenizer::CharTokenizer;
use addition::Addition;
use calculator::Operator;
pub use rows::TaskRows;
pub use split::Part;

/// The character that ends a problem.
pub const END: char = '\n';

/// The character before a result, where there is working.
const RESULT: char = '#';

/// A problem with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What the model is given, such as `123+456=`.
    pub prompt: String,
    /// What it is to write, working included, without [`END`].
    pub answer: String,
    /// What its accuracy is listed by.
    pub category: Category,
    part: Part,
}

impl Problem {
    /// The result, without any working.
    pub fn result(&self) -> &str {
        result(&self.answer)
    }

    /// Whether `answer` has the right result, whatever its working.
    pub fn is_right(&self, answer: &str) -> bool {
        result(answer) == self.result()
    }
}

/// A kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// Sums with that number of carries.
    Carries(usize),
    /// Problems of an operator.
    Operator(Operator),
}

impl Display for Category {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Carries(1) => f.write_str("1 carry"),
            Self::Carries(count) => write!(f, "{count} carries"),
            Self::Operator(operator) => write!(f, "{}", operator.symbol()),
        }
    }
}

/// The problems of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskData {
    kind: Kind,
    /// Whether only answers are learned.
    mask_prompt: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Addition(Addition),
    Calculator,
}

impl TaskData {
    /// The task of a configuration, if it has one.
    ///
    /// # Errors
    /// A configuration that is not valid.
    pub fn of_config(config: &TrainConfig) -> Result<Option<Self>> {
        let Some(task) = config.task else { return Ok(None) };
        config.validate()?;
        Ok(Some(Self {
            kind: match task {
                Task::Addition => Kind::Addition(Addition {
                    digits: config.digits(),
                    reversed: config.reverse_digits.unwrap_or(true),
                }),
                Task::Calculator => Kind::Calculator,
            },
            mask_prompt: config.mask_prompt.unwrap_or(true),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Addition(_) => Task::Addition.name(),
            Kind::Calculator => Task::Calculator.name(),
        }
    }

    /// Describes its problems.
    pub fn summary(&self) -> String {
        match &self.kind {
            Kind::Addition(addition) => addition.summary(),
            Kind::Calculator => calculator::SUMMARY.into(),
        }
    }

    /// Identifies its problems: two tasks with the same text have the same ones.
    pub fn identity(&self) -> String {
        format!(
            "{}; loss on {}",
            self.summary(),
            if self.mask_prompt { "answers" } else { "all" }
        )
    }

    /// Whether only answers are learned, and not the problems themselves.
    pub fn masks_prompts(&self) -> bool {
        self.mask_prompt
    }

    /// All characters of its problems, which are ASCII.
    pub fn characters(&self) -> &'static str {
        match self.kind {
            Kind::Addition(_) => addition::CHARACTERS,
            Kind::Calculator => calculator::CHARACTERS,
        }
    }

    /// The tokenizer of its characters.
    pub fn tokenizer(&self) -> CharTokenizer {
        CharTokenizer::from_text(self.characters())
    }

    /// A random problem of a part, as training draws them: with short numbers often enough to be learned.
    pub fn sample(&self, rng: &mut ChaCha8Rng, part: Part) -> Problem {
        of_part(part, || match &self.kind {
            Kind::Addition(addition) => addition.sample_for_training(rng),
            Kind::Calculator => calculator::sample(rng),
        })
    }

    /// `count` different held-out problems, or as many as there are, always the same and in the same order. Sums of task
    /// addition have uniform numbers.
    pub fn held_out(&self, count: usize) -> Vec<Problem> {
        /// Draws for each problem, before there seem to be no more of them.
        const DRAWS: usize = 20;
        let mut rng = evaluation_rng(Part::HeldOut);
        let (mut problems, mut seen) = (Vec::with_capacity(count), HashSet::new());
        for _ in 0..DRAWS * count {
            if problems.len() == count {
                break;
            }
            let problem = of_part(Part::HeldOut, || match &self.kind {
                Kind::Addition(addition) => addition.sample(&mut rng),
                Kind::Calculator => calculator::sample(&mut rng),
            });
            if seen.insert(problem.prompt.clone()) {
                problems.push(problem);
            }
        }
        problems
    }
}

/// The first problem of `part` that `draw` gives.
fn of_part(part: Part, mut draw: impl FnMut() -> Problem) -> Problem {
    loop {
        let problem = draw();
        if problem.part == part {
            return problem;
        }
    }
}

/// The result of an answer: what follows the last mark, or all of it.
pub fn result(answer: &str) -> &str {
    answer.rsplit(RESULT).next().unwrap_or(answer)
}

/// The random numbers of the problems that a model is evaluated on, the same for every seed of a run.
pub fn evaluation_rng(part: Part) -> ChaCha8Rng {
    step_rng(0, u64::MAX - u64::from(part == Part::HeldOut))
}

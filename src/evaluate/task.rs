//! The accuracy of a model on a task: the fraction of problems whose greedy answer is exactly right.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::data::tasks::{Category, END, Problem};
use crate::generate::Generator;
use crate::tokenizer::Tokenizer;

/// How many problems have right answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Problems with a right answer.
    pub correct: usize,
    /// All problems.
    pub problems: usize,
}

/// A model's answers to problems.
pub struct Answers {
    /// A problem, and what the model wrote, up to the new line.
    pub answers: Vec<(Problem, String)>,
}

impl Score {
    /// The fraction of right answers, from 0 to 1.
    pub fn accuracy(self) -> f64 {
        self.correct as f64 / self.problems as f64
    }

    pub(super) fn add(&mut self, correct: bool) {
        self.correct += usize::from(correct);
        self.problems += 1;
    }
}

impl Answers {
    /// Answers `problems` by greedy decoding, in batches. `progress` is called with the number of newly answered ones.
    ///
    /// # Errors
    /// A tokenizer without the task's characters, problems longer than the model's context, or an error of MLX's.
    pub fn of(
        generator: &Generator,
        tokenizer: &Tokenizer,
        problems: Vec<Problem>,
        progress: impl FnMut(usize),
    ) -> Result<Self> {
        let encode = |problem: &Problem| tokenizer.encode(&problem.prompt);
        let prompts: Vec<Vec<u32>> = problems.iter().map(encode).collect::<Result<_>>()?;
        let end = tokenizer.encode(&END.to_string())?;
        ensure!(
            end.len() == 1,
            "the tokenizer has no token of its own for the end of a line, which ends an answer"
        );
        let answers = generator.greedy(&prompts, &end, progress)?;
        let decoded = problems.into_iter().zip(answers).map(|(problem, ids)| {
            let text = tokenizer.decode(&ids)?;
            Ok((problem, text))
        });
        Ok(Self {
            answers: decoded.collect::<Result<_>>()?,
        })
    }

    /// Of all problems.
    pub fn score(&self) -> Score {
        let mut score = Score::default();
        self.answers
            .iter()
            .for_each(|(problem, answer)| score.add(problem.is_right(answer)));
        score
    }

    /// Of each category that occurs.
    pub fn by_category(&self) -> BTreeMap<Category, Score> {
        let mut scores: BTreeMap<Category, Score> = BTreeMap::new();
        for (problem, answer) in &self.answers {
            scores
                .entry(problem.category)
                .or_default()
                .add(problem.is_right(answer));
        }
        scores
    }

    /// The first `count` of them as lines, each with what the answer is where it is wrong.
    pub fn sample(&self, count: usize) -> String {
        let lines = self.answers.iter().take(count).map(|(problem, answer)| {
            let mark = match problem.is_right(answer) {
                true => "right".into(),
                false => format!("wrong: it is {}", problem.result()),
            };
            format!("{}{answer}   {mark}\n", problem.prompt)
        });
        lines.collect()
    }
}

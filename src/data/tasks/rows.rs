//! Rows of problems.

use std::iter;

use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;

use super::{END, Part, Problem, TaskData, evaluation_rng};
use crate::data::batches::{Batch, IGNORE_INDEX};
use crate::tokenizer::Tokenizer;

/// The problems of a part as rows of tokens.
///
/// A row begins with a problem, and holds further ones while the next still fits whole; the rest is padding. Targets are the
/// characters of answers and the new lines at their ends, or with prompts unmasked, all characters of problems.
pub struct TaskRows {
    task: TaskData,
    part: Part,
    /// Token ids by ASCII code.
    ids: [u32; 128],
}

impl TaskRows {
    /// With a tokenizer that has every character of the task as a token.
    ///
    /// # Errors
    /// It has not.
    pub fn new(task: &TaskData, part: Part, tokenizer: &Tokenizer) -> Result<Self> {
        let mut ids = [0; 128];
        for character in task.characters().chars() {
            let encoded = tokenizer.encode(&character.to_string()).unwrap_or_default();
            ensure!(
                encoded.len() == 1,
                "the tokenizer has no token for {character:?}, which task {} needs; choose an --init-from that was trained on it, or leave --init-from out",
                task.name()
            );
            ids[character as usize] = encoded[0];
        }
        Ok(Self {
            task: task.clone(),
            part,
            ids,
        })
    }

    /// A random problem of the part, and the tokens of its prompt.
    pub fn prompt(&self, rng: &mut ChaCha8Rng) -> (Problem, Vec<u32>) {
        let problem = self.task.sample(rng, self.part);
        let ids = problem.prompt.chars().map(|character| self.ids[character as usize]);
        let ids = ids.collect();
        (problem, ids)
    }

    /// The token that ends an answer.
    pub fn end(&self) -> u32 {
        self.ids[END as usize]
    }

    /// Random rows of `context` tokens.
    pub fn batch(&self, rng: &mut ChaCha8Rng, rows: usize, context: usize) -> Batch {
        let (mut inputs, mut targets) = (Vec::with_capacity(rows * context), Vec::with_capacity(rows * context));
        for _ in 0..rows {
            let (ids, learned) = self.row(rng, context + 1);
            inputs.extend(&ids[..context]);
            let pairs = ids[1..].iter().zip(&learned[1..]);
            targets.extend(pairs.map(|(&id, &learned)| if learned { id } else { IGNORE_INDEX }));
        }
        Batch { inputs, targets, rows }
    }

    /// Batches of at most `rows` rows, `count` in all, the same at every evaluation.
    pub fn eval_batches(&self, count: usize, rows: usize, context: usize) -> Vec<Batch> {
        let mut rng = evaluation_rng(self.part);
        let starts = (0..count).step_by(rows);
        starts
            .map(|start| self.batch(&mut rng, rows.min(count - start), context))
            .collect()
    }

    /// A row's tokens, and which of them are to be learned.
    fn row(&self, rng: &mut ChaCha8Rng, tokens: usize) -> (Vec<u32>, Vec<bool>) {
        let (mut ids, mut learned) = (Vec::with_capacity(tokens), Vec::with_capacity(tokens));
        loop {
            let Problem { prompt, answer, .. } = self.task.sample(rng, self.part);
            let characters = prompt.chars().chain(answer.chars()).chain([END]);
            let given = if self.task.masks_prompts() { prompt.len() } else { 0 };
            if ids.len() + prompt.len() + answer.len() + 1 > tokens {
                break;
            }
            ids.extend(characters.map(|character| self.ids[character as usize]));
            learned.extend(iter::repeat_n(false, given));
            learned.resize(ids.len(), true);
        }
        ids.resize(tokens, self.ids[END as usize]);
        learned.resize(tokens, false);
        (ids, learned)
    }
}

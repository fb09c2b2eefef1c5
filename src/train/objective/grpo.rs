//! Answers for group-relative policy optimisation: in each step the model answers problems, several times each, and right answers
//! are rewarded. One update is made with the answers of a step, as by DeepSeekMath (2024, section 4.2), so that their ratios are 1
//! but for the number format; what is sampled is a function of the parameters, the seed and the step.

use anyhow::{Result, bail, ensure};
use rand::RngExt;

use crate::checkpoint::Checkpoint;
use crate::config::{ModelConfig, TrainConfig};
use crate::data::batches::{Batch, IGNORE_INDEX};
use crate::data::source::Source;
use crate::data::tasks::{Problem, TaskRows};
use crate::evaluate::Evaluator;
use crate::generate::sampler::{SampledToken, Sampling};
use crate::generate::{Generator, sample_rng};
use crate::tokenizer::Tokenizer;
use crate::train::metrics::AnswersRecord;
use crate::train::step::gradients::MicroBatch;
use crate::train::step::objective::ObjectiveRows;
use crate::train::step::objective::grpo::{GrpoRows, advantages};
use crate::train::step::{Stepper, TrainState};

/// What answers are sampled and compared with.
pub struct Grpo {
    model: ModelConfig,
    tokenizer: Tokenizer,
    reference: Checkpoint,
    /// Of the reference model.
    evaluator: Evaluator,
    group_size: usize,
    batch_size: usize,
    context: usize,
    /// The token that ends an answer.
    end: u32,
}

/// A sampled answer.
struct Answer {
    /// The problem's tokens.
    prompt: Vec<u32>,
    /// What was sampled, at most to the end of the row.
    tokens: Vec<SampledToken>,
    reward: f32,
}

impl Grpo {
    /// For a run that is tuned from `reference`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(config: &TrainConfig, reference: Checkpoint, problems: &TaskRows) -> Result<Self> {
        let threads = config.compute_threads();
        Ok(Self {
            model: ModelConfig {
                lora: config.lora(),
                ..reference.model.clone()
            },
            tokenizer: reference.tokenizer.clone(),
            evaluator: Evaluator::new(&reference.model, reference.parameters.names(), threads)?,
            reference,
            group_size: config.group_size(),
            batch_size: config.batch_size,
            context: config.context,
            end: problems.end(),
        })
    }

    /// The first `count` micro-batches of the next step of `state`: answers to new problems.
    ///
    /// # Errors
    /// MLX's; logits that are not numbers.
    pub fn step_data(
        &mut self,
        stepper: &Stepper,
        state: &TrainState,
        source: &Source,
        count: usize,
    ) -> Result<(Vec<MicroBatch>, AnswersRecord)> {
        let Source::Task(problems) = source else {
            bail!("the run's data are no problems");
        };
        let mut rng = stepper.rng(state.step);
        let groups = count * self.batch_size / self.group_size;
        let problems: Vec<(Problem, Vec<u32>)> = (0..groups).map(|_| problems.prompt(&mut rng)).collect();
        let answers = self.answers(state, problems, rng.random())?;
        let batch = self.rows(&answers)?;
        let old = self.columns(
            &batch,
            answers
                .iter()
                .flat_map(|answer| &answer.tokens)
                .map(|token| token.logprob),
        );
        let reference = self.reference_logprobs(&batch)?;
        let share = |answer: &Answer| 1.0 / (answer.tokens.len() * answers.len()) as f32;
        let weights = answers
            .iter()
            .flat_map(|answer| std::iter::repeat_n(share(answer), answer.tokens.len()));
        let weights = self.columns(&batch, weights);
        let rewards: Vec<f32> = answers.iter().map(|answer| answer.reward).collect();
        let advantages: Vec<f32> = rewards.chunks(self.group_size).flat_map(advantages).collect();

        let mut micro_batches = stepper.divide(&mut rng, batch);
        let (rows, tokens) = (self.batch_size, self.batch_size * self.context);
        for (part, micro_batch) in micro_batches.iter_mut().enumerate() {
            let of_rows = |numbers: &[f32]| numbers[part * rows..(part + 1) * rows].to_vec();
            let of_tokens = |numbers: &[f32]| numbers[part * tokens..(part + 1) * tokens].to_vec();
            micro_batch.objective = Some(ObjectiveRows::Grpo(GrpoRows {
                advantages: of_rows(&advantages),
                old_logprobs: of_tokens(&old),
                reference_logprobs: of_tokens(&reference),
                token_weights: of_tokens(&weights),
            }));
        }
        Ok((micro_batches, self.record(&answers, &rewards)))
    }

    /// A group of answers to each problem, sampled at temperature 1; each has random numbers of its own.
    fn answers(&self, state: &TrainState, problems: Vec<(Problem, Vec<u32>)>, seed: u64) -> Result<Vec<Answer>> {
        let generator = Generator::new(&self.model, &state.model_parameters())?.for_tokenizer(&self.tokenizer);
        let prompts: Vec<Vec<u32>> = problems
            .iter()
            .flat_map(|(_, prompt)| std::iter::repeat_n(prompt.clone(), self.group_size))
            .collect();
        let mut rngs: Vec<_> = (0..prompts.len() as u64)
            .map(|number| sample_rng(seed, number))
            .collect();
        let sampled = generator.continuations(&prompts, &[self.end], &Sampling::PLAIN, &mut rngs, |_| ())?;
        let answers = prompts.into_iter().zip(sampled).enumerate();
        answers
            .map(|(row, (prompt, mut tokens))| {
                // A model may have a larger context than a row.
                tokens.truncate(self.context + 1 - prompt.len());
                let (problem, _) = &problems[row / self.group_size];
                let reward = self.reward(problem, &tokens)?;
                Ok(Answer { prompt, tokens, reward })
            })
            .collect()
    }

    /// 1 for an answer with the right result that ends, else 0.
    fn reward(&self, problem: &Problem, tokens: &[SampledToken]) -> Result<f32> {
        let ends = |(last, before): (&SampledToken, _)| (last.id == self.end).then_some(before);
        let Some(before) = tokens.split_last().and_then(ends) else {
            return Ok(0.0);
        };
        let before: &[SampledToken] = before;
        let ids: Vec<u32> = before.iter().map(|token| token.id).collect();
        let text = self.tokenizer.decode(&ids)?;
        Ok(f32::from(u8::from(problem.is_right(&text))))
    }

    /// Answers as rows, whose targets are what was sampled.
    fn rows(&self, answers: &[Answer]) -> Result<Batch> {
        let tokens = answers.len() * self.context;
        let (mut inputs, mut targets) = (Vec::with_capacity(tokens), Vec::with_capacity(tokens));
        for answer in answers {
            let given = answer.prompt.len();
            ensure!(
                !answer.tokens.is_empty(),
                "a problem leaves no room for an answer in a row"
            );
            let row = inputs.len();
            let sampled = answer.tokens.iter().map(|token| token.id);
            inputs.extend(&answer.prompt);
            inputs.extend(sampled.clone().take(answer.tokens.len() - 1)); // the last one is only predicted
            inputs.resize(row + self.context, self.end);
            targets.resize(row + given - 1, IGNORE_INDEX);
            targets.extend(sampled);
            targets.resize(row + self.context, IGNORE_INDEX);
        }
        Ok(Batch {
            inputs,
            targets,
            rows: answers.len(),
        })
    }

    /// One number for each target of `batch`, in order, and 0 where there is none, `[rows, T]`.
    fn columns(&self, batch: &Batch, mut numbers: impl Iterator<Item = f32>) -> Vec<f32> {
        let targets = batch.targets.iter();
        targets
            .map(|&id| match id {
                IGNORE_INDEX => 0.0,
                _ => numbers.next().unwrap_or(0.0),
            })
            .collect()
    }

    /// Log-probabilities of the targets under the reference model, `[rows, T]`.
    fn reference_logprobs(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        // Parts of one size, so that one forward pass is compiled, and as many as there are threads.
        let most = self
            .evaluator
            .rows(self.context)
            .min(batch.rows.div_ceil(self.evaluator.batches_at_once()));
        let rows = (1..=most)
            .rev()
            .find(|&rows| batch.rows.is_multiple_of(rows))
            .unwrap_or(1);
        let losses = self
            .evaluator
            .losses(&self.reference.parameters, batch.clone().split(rows))?;
        Ok(losses.into_iter().flatten().map(|loss| -loss).collect())
    }

    fn record(&self, answers: &[Answer], rewards: &[f32]) -> AnswersRecord {
        let mean = |numbers: &mut dyn Iterator<Item = f32>, count: usize| numbers.sum::<f32>() / count as f32;
        let groups = rewards.chunks(self.group_size);
        let deviations: Vec<f32> = groups
            .map(|group| {
                let of_group = mean(&mut group.iter().copied(), group.len());
                let squares = group.iter().map(|reward| (reward - of_group).powi(2));
                (squares.sum::<f32>() / (group.len() - 1) as f32).sqrt()
            })
            .collect();
        let entropy = |answer: &Answer| {
            let logprobs = answer.tokens.iter().map(|token| -token.logprob);
            logprobs.sum::<f32>() / answer.tokens.len() as f32
        };
        AnswersRecord {
            reward: mean(&mut rewards.iter().copied(), rewards.len()),
            reward_std: mean(&mut deviations.iter().copied(), deviations.len()),
            equal_groups: mean(
                &mut deviations.iter().map(|&std| f32::from(u8::from(std == 0.0))),
                deviations.len(),
            ),
            entropy: mean(&mut answers.iter().map(entropy), answers.len()),
            answer_tokens: mean(
                &mut answers.iter().map(|answer| answer.tokens.len() as f32),
                answers.len(),
            ),
        }
    }
}

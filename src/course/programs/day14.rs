//! Day 14: the figures and claims of its chapter, in its order.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use mlx_rs::ops::indexing::take_along_axis;
use mlx_rs::{Array, Dtype, ops};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::run::Run;
use crate::config::{Optimizer, Rl, Task, TrainConfig};
use crate::course::day03::Weights;
use crate::course::day07::{Shape, gpt};
use crate::course::day14::{advantages, dpo_loss, grpo_loss, kl_k3};
use crate::data::batches::step_rng;
use crate::data::corpus::Split;
use crate::data::preferences::PreferenceData;
use crate::data::tasks::{END, Part, TaskData};
use crate::disk::durable;
use crate::evaluate::Evaluator;
use crate::evaluate::preferences::{PreferenceScore, pair_logprobs};
use crate::evaluate::task::{Answers, Score};
use crate::lessons::arrays::{largest, largest_difference};
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::pytorch::{preference_answer, preference_model};
use crate::lessons::results::Accuracy;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::train::metrics::{self, ObjectiveRecord, Record};
use crate::train::step::objective::grpo;

/// Day 14.
pub const LESSON: Lesson = Lesson {
    day: 14,
    title: "Rewards and preferences",
    teaches: "GRPO: rewards for right answers; DPO: of two answers the better one; the distance from where they began",
    chapter: include_str!("../../../book/src/day-14.md"),
    models: &[HALF, REWARDED],
    needs: &[],
    program,
};

/// No accuracy is expected of a model that stops where it learns fastest.
const NO_BAND: (f64, f64) = (0.0, f64::INFINITY);

/// Sums of two digits, stopped when some of them are right.
const HALF: Recipe = Recipe {
    folder: "day-14-half",
    what: "sums of two digits, half trained",
    change: half,
    starts_from: None,
    band: NO_BAND,
};

/// Steps after which 0.637, 0.476 and 0.372 of the sums are right, with seeds 1337, 2 and 3; with 110 steps it is one in fifty.
const HALFWAY: u64 = 150;

/// The same, rewarded for right answers.
const REWARDED: Recipe = Recipe {
    folder: "day-14",
    what: "sums of two digits, rewarded",
    change: |config| {
        let mut config = TrainConfig {
            rl: Some(Rl::Grpo),
            ..half(config)
        };
        config.tune(config.objective());
        TrainConfig {
            steps: 800,
            lr: 5e-4,
            min_lr: 5e-5,
            eval_every: 100,
            save_every: 200,
            ..config.with_optimizer(Optimizer::Adamw)
        }
    },
    starts_from: Some(HALF.folder),
    band: NO_BAND,
};

/// The same, trained on pairs of a right sum and its own wrong one.
const PREFERRING: Recipe = Recipe {
    folder: "day-14-preferring",
    what: "the half-trained model, on pairs",
    change: |config| {
        let mut config = TrainConfig {
            preferences: Some(PAIRS.into()),
            task: None,
            digits: None,
            reverse_digits: None,
            mask_prompt: None,
            ..half(config)
        };
        config.tune(config.objective());
        config.with_optimizer(Optimizer::Adamw)
    },
    starts_from: Some(HALF.folder),
    band: NO_BAND,
};

/// By how much rewards must raise the accuracy: of seed 1337, it rose from 0.637 to 0.886.
const GAIN: f64 = 0.1;

/// The pairs, below the folder of lessons.
const PAIRS: &str = "day-14-pairs.jsonl";
/// Mistakes that pairs are made of, of so many problems.
const MISTAKES: usize = 1000;
const PROBLEMS: usize = 4000;
/// Fewer pairs could not be divided.
const FEWEST: usize = 40;

fn half(config: TrainConfig) -> TrainConfig {
    TrainConfig {
        layers: 2, // a small model, which samples its answers quickly
        heads: 4,
        embd: 64,
        digits: Some(2),
        context: 9, // 99+99=891; after its end nothing follows
        steps: HALFWAY,
        eval_every: HALFWAY,
        save_every: HALFWAY,
        ..config.with_optimizer(Optimizer::Muon).with_task(Task::Addition)
    }
}

fn program(page: &mut Page, workspace: &Workspace) -> Result<()> {
    page.figure("advantages.txt", || {
        let mut out = String::from("rewards           advantages\n");
        for rewards in [
            [1.0, 0.0, 0.0, 0.0],
            [1.0, 1.0, 1.0, 0.0],
            [1.0, 1.0, 1.0, 1.0],
            [0.0; 4],
        ] {
            let shown = |numbers: &[f32], decimals: usize| -> String {
                numbers.iter().map(|number| format!(" {number:>5.decimals$}")).collect()
            };
            writeln!(out, "{}  {}", shown(&rewards, 0), shown(&advantages(&rewards), 2))?;
        }
        Ok(out)
    })?;
    page.claim(
        "advantages are the library's",
        "advantages in src/course/day14.rs, advantages in src/train/step/objective/grpo.rs",
        || {
            let groups = (0..256).map(|bits| (0..8).map(|bit| (bits >> bit & 1) as f32).collect());
            let off = groups.map(|rewards: Vec<f32>| {
                let pairs = advantages(&rewards).into_iter().zip(grpo::advantages(&rewards));
                largest(pairs.map(|(a, b)| a - b))
            });
            Ok(CheckResult::within_tolerance(largest(off), 1e-6))
        },
    )?;
    let [probabilities, reference] =
        [[0.5f32, 0.3, 0.15, 0.05], [0.25, 0.25, 0.25, 0.25]].map(|p| Array::from_slice(&p, &[4]));
    let estimates = kl_k3(&probabilities.log()?, &reference.log()?)?;
    let exact = probabilities.log()?.subtract(reference.log()?)?;
    let exact: f32 = exact.multiply(&probabilities)?.sum(None)?.try_item_exact()?;
    let mean: f32 = estimates.multiply(&probabilities)?.sum(None)?.try_item_exact()?;
    page.figure("kl.txt", || {
        let [p, q, k3]: [Vec<f32>; 3] = [
            probabilities.to_vec_exact()?,
            reference.to_vec_exact()?,
            estimates.to_vec_exact()?,
        ];
        let mut out = String::from("token     π   π_ref  −log-ratio      k3\n");
        for (token, ((p, q), k3)) in p.iter().zip(&q).zip(&k3).enumerate() {
            writeln!(out, "{token:>5} {p:>5.2} {q:>7.2} {:>11.4} {k3:>7.4}", (p / q).ln())?;
        }
        Ok(out + &format!("\nKL divergence {exact:.6}, mean of k3 over tokens of π {mean:.6}\n"))
    })?;
    page.claim(
        "the mean of k3 over the model's tokens is the KL divergence",
        "kl_k3 in src/course/day14.rs",
        // Sums of four float32 numbers below 1.
        || Ok(CheckResult::within_tolerance((exact - mean).abs(), 1e-6)),
    )?;
    page.claim(
        "by hand, losses are those of PyTorch with trl's formulas",
        "grpo_loss and dpo_loss in src/course/day14.rs, scripts/preference_fixtures.py",
        || {
            let [grpo, dpo] = by_hand()?;
            let off = |loss: &Array, name| largest_difference(loss, &preference_answer(name)?);
            // Means of some numbers around 1, after two layers of float32.
            let largest = largest([off(&grpo, "grpo.loss")?, off(&dpo, "dpo.loss")?]);
            Ok(CheckResult::within_tolerance(largest, 1e-5))
        },
    )?;

    page.figure("half.txt", || Ok(workspace.train(&HALF)?.summary()))?;
    page.figure("rewarded.txt", || Ok(workspace.train(&REWARDED)?.summary()))?;
    page.figure("before-and-after.txt", || before_and_after(workspace))?;
    page.claim(
        "rewards alone raise the accuracy on unseen sums by 10 points",
        "the rewards in src/train/objective/grpo.rs",
        || {
            if !workspace.is_fully_trained(&HALF)? || !workspace.is_fully_trained(&REWARDED)? {
                return Ok(CheckResult::Skipped("it needs all steps of both trainings".into()));
            }
            let [before, after] = accuracies(workspace)?;
            let measured = format!("from {before:.4} to {after:.4}");
            Ok(CheckResult::passes_if(after >= before + GAIN, measured))
        },
    )?;
    page.figure("rewards.svg", || {
        let steps = rewarded_steps(workspace)?;
        let axes = Axes::new(
            "Rewards, and the distance from the first model",
            "step",
            "fraction of right answers; nats per token",
        );
        let [reward, kl] = [1, 2].map(|column: usize| {
            let points = steps.iter().map(|step| (step[0], step[column]));
            points.collect()
        });
        curves(
            &axes,
            &[Series::new("reward", reward), Series::new("KL divergence", kl)],
        )
    })?;

    page.figure("dpo.txt", || {
        let mut out = String::from("reward of the chosen − of the rejected      loss\n");
        for margin in [-4.0f32, -1.0, 0.0, 1.0, 4.0] {
            let logprobs = Array::from_slice(&[margin, 0.0], &[1, 2]);
            let loss: f32 = dpo_loss(&logprobs, &Array::zeros::<f32>(&[1, 2])?, 1.0)?.try_item_exact()?;
            writeln!(out, "{margin:>38.0} {loss:>9.4}")?;
        }
        Ok(out)
    })?;
    let mut pairs = None;
    page.figure("pairs.txt", || {
        let made = pairs_of_mistakes(workspace)?;
        let shown = made.records.iter().take(5).map(|record| {
            let [chosen, rejected] = [&record.chosen, &record.rejected].map(|text| text.replace(END, "↵"));
            format!("{}{chosen:<6} not {rejected}\n", record.prompt)
        });
        let text = format!("{} pairs, such as\n\n{}", made.records.len(), shown.collect::<String>());
        pairs = Some(made);
        Ok(text)
    })?;
    page.figure("preferring.txt", || {
        let made = match pairs.take() {
            Some(made) => made,
            None => pairs_of_mistakes(workspace)?,
        };
        preferring(workspace, made)
    })
}

/// The losses of the rows of PyTorch's, from the model's logits on: GRPO's, then DPO's.
fn by_hand() -> Result<[Array; 2]> {
    let (model, parameters) = preference_model()?;
    let ids = preference_answer("x")?.as_dtype(Dtype::Uint32)?; // [N, T]
    let targets = preference_answer("y")?; // −100 where there is none
    let zero = Array::from_f32(0.0);
    let mask = targets.ge(&zero)?.as_dtype(Dtype::Float32)?;
    let indices = ops::maximum(&targets, &zero)?.as_dtype(Dtype::Uint32)?;
    let logits = gpt(&ids, &Weights::from(&parameters), &Shape::from(&model))?; // [N, T, V]
    let at_target = take_along_axis(&logits, indices.expand_dims(-1)?, -1)?.squeeze_axes(&[-1])?;
    let logprobs = at_target.subtract(logits.logsumexp_axis(-1, false)?)?; // [N, T]
    let [old, reference, rewards] = ["old", "reference", "rewards"].map(preference_answer);
    let (old, reference) = (old?, reference?);
    let rewards: Vec<f32> = rewards?.to_vec_exact()?;
    let of_groups: Vec<f32> = rewards.chunks(4).flat_map(advantages).collect();
    let of_groups = Array::from_slice(&of_groups, &[rewards.len() as i32, 1]);
    let grpo = grpo_loss(&logprobs, [&old, &reference], &mask, &of_groups, 0.2, 0.04)?;
    // Rows 2i and 2i + 1 are a pair.
    let of_pairs = |logprobs: &Array| logprobs.multiply(&mask)?.sum_axis(-1, false)?.reshape(&[-1, 2]);
    let dpo = dpo_loss(&of_pairs(&logprobs)?, &of_pairs(&reference)?, 0.1)?;
    Ok([grpo, dpo])
}

/// The accuracy of both models, and the rewards of the steps between them.
fn before_and_after(workspace: &Workspace) -> Result<String> {
    let [before, after] = accuracies(workspace)?;
    let mut out = format!("accuracy on unseen sums: before {before:.4}, after {after:.4}\n\n");
    out += "steps       reward   KL from the first model\n";
    let steps = rewarded_steps(workspace)?;
    for part in steps.chunks(steps.len().div_ceil(5).max(1)) {
        let mean = |column: usize| part.iter().map(|step| step[column]).sum::<f64>() / part.len() as f64;
        let [first, last] = [part.first(), part.last()].map(|step| step.map_or(0.0, |step| step[0]));
        writeln!(out, "{first:>3.0} to {last:<3.0} {:>8.3} {:>10.4}", mean(1), mean(2))?;
    }
    Ok(out)
}

/// The accuracy of the half-trained and of the rewarded model.
fn accuracies(workspace: &Workspace) -> Result<[f64; 2]> {
    let [before, after] = [HALF, REWARDED].map(|recipe| workspace.results(recipe.folder));
    let accuracy = |accuracy: Option<Accuracy>| accuracy.map_or(f64::NAN, |accuracy| accuracy.total.accuracy());
    Ok([accuracy(before?.accuracy), accuracy(after?.accuracy)])
}

/// Of each logged step of rewards: its number, the mean reward, and the KL divergence.
fn rewarded_steps(workspace: &Workspace) -> Result<Vec<[f64; 3]>> {
    let mut steps = Vec::new();
    for line in metrics::read(&Run::open(&workspace.folder(REWARDED.folder))?)? {
        if let Record::Step(line) = line
            && let Some(ObjectiveRecord::Grpo(record)) = line.objective
        {
            steps.push([line.step as f64, f64::from(record.answers.reward), f64::from(record.kl)]);
        }
    }
    Ok(steps)
}

/// The half-trained model's wrong answers to problems of the training, each with the right one; written to their file.
fn pairs_of_mistakes(workspace: &Workspace) -> Result<PreferenceData> {
    let task = TaskData::of_config(&workspace.config(&HALF)?)?.context("there is no task")?;
    let half = workspace.load(HALF.folder)?;
    let mut rng = step_rng(workspace.seed(), 0);
    let problems = (0..PROBLEMS).map(|_| task.sample(&mut rng, Part::Train)).collect();
    let answers = Answers::of(&half.generator()?, &half.tokenizer, problems, |_| ())?;
    let wrong = answers
        .answers
        .into_iter()
        .filter(|(problem, answer)| !problem.is_right(answer));
    let mut lines = String::new();
    for (problem, answer) in wrong.take(MISTAKES) {
        let line = serde_json::json!({
            "prompt": problem.prompt,
            "chosen": format!("{}{END}", problem.answer),
            "rejected": format!("{answer}{END}"),
        });
        writeln!(lines, "{line}")?;
    }
    let count = lines.lines().count();
    ensure!(
        count >= FEWEST,
        "the half-trained model makes only {count} mistakes in {PROBLEMS} sums, too few for pairs; train it for fewer steps: {} --steps 100",
        workspace.command("14")
    );
    let path = workspace.folder(PAIRS);
    durable::write_file(&path, lines.as_bytes())?;
    PreferenceData::read(&path)
}

/// Trains on pairs, and says how many held-out ones are preferred, and what became of the sums.
fn preferring(workspace: &Workspace, pairs: PreferenceData) -> Result<String> {
    workspace.train_on_pairs(&PREFERRING, pairs.clone())?;
    let (half, preferring) = (workspace.load(HALF.folder)?, workspace.load(PREFERRING.folder)?);
    let [before, after] = [preferred(&half, &pairs)?, preferred(&preferring, &pairs)?];
    let mut out = format!(
        "{} steps, {} held-out pairs\n\n                                            before     after\n",
        workspace.at_most((PREFERRING.change)(workspace.config(&HALF)?).steps),
        before.pairs
    );
    writeln!(
        out,
        "pairs whose right sum is likelier          {:>7.4} {:>9.4}",
        before.accuracy, after.accuracy
    )?;
    let task = TaskData::of_config(&workspace.config(&HALF)?)?.context("there is no task")?;
    let score = |checkpoint| -> Result<Score> { Ok(Accuracy::of(checkpoint, &task, workspace.problems())?.0.total) };
    let [before, after] = [score(&half)?, score(&preferring)?];
    writeln!(
        out,
        "accuracy on unseen sums                    {:>7.4} {:>9.4}",
        before.accuracy(),
        after.accuracy()
    )?;
    Ok(out)
}

/// How often a model gives the chosen answer of held-out pairs the higher probability.
fn preferred(checkpoint: &Checkpoint, pairs: &PreferenceData) -> Result<PreferenceScore> {
    let held_out = pairs.split(Split::Val)?;
    let context = checkpoint.model.context;
    let rows = pairs.pairs(&held_out, &checkpoint.tokenizer, None, context)?;
    let all: Vec<usize> = (0..rows.len()).collect();
    let mut evaluator = Evaluator::of_checkpoint(checkpoint)?;
    let logprobs = pair_logprobs(&mut evaluator, &checkpoint.parameters, &rows, &all, context, |_| ())?;
    Ok(PreferenceScore::of(&logprobs, None))
}

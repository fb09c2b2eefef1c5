//! Day 11: the figures and claims of its chapter, in its order.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};
use mlx_rs::Array;

use crate::checkpoint::Checkpoint;
use crate::config::{Device, Optimizer, Preset, Task, TrainConfig};
use crate::course::day03::Weights;
use crate::course::day07::{Shape, gpt};
use crate::course::day11::{masked_cross_entropy, reversed_sum};
use crate::data::batches::{IGNORE_INDEX, step_rng};
use crate::data::tasks::calculator::{self, Operator};
use crate::data::tasks::{END, Part, TaskData, TaskRows};
use crate::evaluate::task::Score;
use crate::lessons::arrays::largest_difference;
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::results::{Accuracy, Results};
use crate::lessons::training::library_step;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::model::init::initialize;
use crate::terminal::console::program as command;
use crate::tokenizer::Tokenizer;

/// Day 11.
pub const LESSON: Lesson = Lesson {
    day: 11,
    title: "A model that calculates",
    teaches: "problems made on the fly; a loss on answers alone; the order of digits; written working",
    chapter: include_str!("../../../book/src/day-11.md"),
    models: &[ADDITION],
    needs: &[],
    program,
};

/// Sums of numbers of up to three digits, as `train --task addition` learns them.
const ADDITION: Recipe = Recipe {
    folder: "day-11",
    what: "GPT-2, sums of three digits",
    change: |config| TrainConfig {
        seed: config.seed,
        ..recipe(config.device, Task::Addition)
    },
    starts_from: None,
    band: (0.99, 1.0),
};

/// Where `make lessons-long` trains the calculator, which takes longer than a day should.
const CALCULATOR: &str = "day-11-calculator";

/// Steps after which the ways to learn sums differ.
const ABLATION_STEPS: u64 = 600;
const ABLATION_SEEDS: u64 = 3;

/// Problems of the calculator that its model is measured on.
const CALCULATOR_PROBLEMS: usize = 1000;

/// The recipe of `train --task`.
fn recipe(device: Device, task: Task) -> TrainConfig {
    let nano = Preset::Nano.train_config(device).with_optimizer(Optimizer::Muon);
    nano.with_task(task)
}

fn program(page: &mut Page, workspace: &Workspace) -> Result<()> {
    let config = workspace.config(&ADDITION)?;
    let task = TaskData::of_config(&config)?.context("there is no task")?;
    let tokenizer = Tokenizer::Char(task.tokenizer());
    let rows = TaskRows::new(&task, Part::Train, &tokenizer)?;
    page.figure("problems.txt", || {
        let mut rng = step_rng(workspace.seed(), 0);
        let problems = (0..6).map(|_| task.sample(&mut rng, Part::Train));
        Ok(problems
            .map(|problem| format!("{}{}\n", problem.prompt, problem.answer))
            .collect())
    })?;
    page.figure("row.txt", || {
        let batch = rows.batch(&mut step_rng(workspace.seed(), 0), 1, config.context);
        let shown = |ids: &[u32]| -> Result<String> {
            let characters = ids.iter().map(|&id| match id {
                IGNORE_INDEX => Ok("·".into()),
                id => Ok(tokenizer.decode(&[id])?.replace(END, "↵")),
            });
            characters.collect()
        };
        let (inputs, targets) = (shown(&batch.inputs)?, shown(&batch.targets)?);
        Ok(format!("inputs   {inputs}\ntargets  {targets}\n"))
    })?;
    page.claim(
        "a sum's digits from the last to the first are what the task trains on",
        "reversed_sum in src/course/day11.rs, problem in src/data/tasks/addition.rs",
        || {
            let mut rng = step_rng(workspace.seed(), 1);
            let mut same = true;
            for _ in 0..1000 {
                let problem = task.sample(&mut rng, Part::Train);
                let (a, b) = problem.prompt.trim_end_matches('=').split_once('+').context("no sum")?;
                same &= reversed_sum(a.parse()?, b.parse()?) == problem.answer;
            }
            Ok(CheckResult::passes_if(same, "1000 problems".into()))
        },
    )?;

    // The loss, by hand and in the library, on rows of which some targets are ignored.
    let batch = rows.batch(&mut step_rng(workspace.seed(), 2), 8, config.context);
    let plain = TrainConfig {
        optimizer: Optimizer::Adamw,
        threads: 1,
        ..config.clone()
    };
    let model = plain.model_config(tokenizer.vocab_size());
    let parameters = initialize(&model, workspace.seed())?;
    let shape = [batch.rows as i32, batch.context() as i32]; // [B, T]
    let ids = Array::from_slice(&batch.inputs, &shape);
    let targets = Array::from_slice(&batch.indexable_targets(), &shape);
    let counting: Vec<f32> = batch
        .targets
        .iter()
        .map(|&id| f32::from(u8::from(id != IGNORE_INDEX)))
        .collect();
    let counts = Array::from_slice(&counting, &shape);
    let logits = gpt(&ids, &Weights::from(&parameters), &Shape::from(&model))?; // [B, T, V]
    let masked = masked_cross_entropy(&logits, &targets, &counts)?;
    let all = masked_cross_entropy(&logits, &targets, &Array::ones::<f32>(&shape)?)?;
    page.figure("loss.txt", || {
        let [masked, all]: [f32; 2] = [masked.try_item_exact()?, all.try_item_exact()?];
        Ok(format!(
            "targets {}, of which {} count\n\nbefore training, mean over those that count  {masked:.4}\n\
             over all, as if token 0 were the others     {all:.4}\nln of {} characters                          {:.4}\n",
            batch.targets.len(),
            batch.target_count(),
            model.vocab_size,
            (model.vocab_size as f64).ln()
        ))
    })?;
    page.claim(
        "the loss of targets that count is the library's",
        "masked_cross_entropy in src/course/day11.rs, negative_log_likelihood in src/model/loss.rs",
        || {
            let library = library_step(&plain, &model, &parameters, &batch)?()?;
            // Means of some fifty losses of about 2.5 in float32.
            let off = largest_difference(&masked, &Array::from_f32(library))?;
            Ok(CheckResult::within_tolerance(off, 2e-6))
        },
    )?;
    page.claim(
        "what training draws is never held out, and a+b is held out if b+a is",
        "Part in src/data/tasks/split.rs",
        || {
            let held_out: Vec<String> = task.held_out(2000).into_iter().map(|problem| problem.prompt).collect();
            let mut either = BTreeMap::new();
            for prompt in &held_out {
                let (a, b) = prompt.trim_end_matches('=').split_once('+').context("no sum")?;
                either.insert(format!("{a}+{b}="), ());
                either.insert(format!("{b}+{a}="), ());
            }
            let mut rng = step_rng(workspace.seed(), 3);
            let seen = (0..20_000).filter(|_| either.contains_key(&task.sample(&mut rng, Part::Train).prompt));
            let count = seen.count();
            let measured = format!(
                "{count} of 20000 problems of training are among {} or turned round",
                held_out.len()
            );
            Ok(CheckResult::passes_if(count == 0, measured))
        },
    )?;

    page.figure("training.txt", || Ok(workspace.train(&ADDITION)?.summary()))?;
    page.figure("carries.txt", || by_category(&workspace.results(ADDITION.folder)?))?;

    let mut ways = Vec::new();
    page.figure("ablation.txt", || {
        ways = ablation(workspace)?;
        ablation_table(workspace, &ways)
    })?;
    page.figure("ablation-carries.txt", || carries_table(&ways))?;

    page.figure("working.txt", || {
        let problems = [
            (Operator::Plus, 347, 28),
            (Operator::Minus, 12, 345),
            (Operator::Times, 47, 28),
            (Operator::Divide, 987, 4),
        ];
        let lines = problems.map(|(operator, a, b)| {
            let problem = calculator::problem(operator, a, b);
            format!("{}{}\n", problem.prompt, problem.answer)
        });
        Ok(lines.concat())
    })?;
    page.figure("calculator.txt", || calculator_accuracy(workspace))
}

/// A way to learn sums, and what its trainings reached.
struct Way {
    name: &'static str,
    results: Vec<Accuracy>,
}

/// Sums learned in four ways, each with some seeds.
fn ablation(workspace: &Workspace) -> Result<Vec<Way>> {
    let steps = workspace.at_most(ABLATION_STEPS);
    let mut ways = Vec::new();
    for (name, folder, reversed, masked) in [
        ("reversed, answers alone", "reversed", true, true),
        ("reversed, problems too", "reversed-all", true, false),
        ("plain order, answers alone", "plain", false, true),
        ("plain order, problems too", "plain-all", false, false),
    ] {
        let mut results = Vec::new();
        for seed in (0..ABLATION_SEEDS).map(|number| workspace.seed() + number) {
            let config = TrainConfig {
                reverse_digits: Some(reversed),
                mask_prompt: Some(masked),
                steps,
                eval_every: steps,
                save_every: steps,
                seed,
                ..workspace.config(&ADDITION)?
            };
            let folder = format!("day-11-ablation/{folder}-{seed}");
            let trained = workspace.train_on_task(&folder, &format!("{name}, seed {seed}"), config)?;
            results.extend(trained.accuracy);
        }
        ways.push(Way { name, results });
    }
    Ok(ways)
}

fn ablation_table(workspace: &Workspace, ways: &[Way]) -> Result<String> {
    let first = workspace.seed();
    let mut text = format!(
        "accuracy on {} unseen problems after {} steps\n\nseed                         mean of {ABLATION_SEEDS}",
        workspace.problems(),
        workspace.at_most(ABLATION_STEPS)
    );
    for seed in (0..ABLATION_SEEDS).map(|number| first + number) {
        write!(text, " {seed:>8}")?;
    }
    text.push('\n');
    for way in ways {
        let each = way.results.iter().map(|accuracy| accuracy.total.accuracy());
        let mean = each.clone().sum::<f64>() / way.results.len() as f64;
        write!(text, "{:<28} {mean:>9.4}", way.name)?;
        for accuracy in each {
            write!(text, " {accuracy:>8.4}")?;
        }
        text.push('\n');
    }
    Ok(text)
}

/// The accuracy of each way by number of carries, over all of its seeds.
fn carries_table(ways: &[Way]) -> Result<String> {
    let mut table: BTreeMap<&str, Vec<Score>> = BTreeMap::new();
    for (column, way) in ways.iter().enumerate() {
        for (name, score) in way.results.iter().flat_map(|accuracy| &accuracy.categories) {
            let row = table.entry(name).or_insert_with(|| vec![Score::default(); ways.len()]);
            row[column].correct += score.correct;
            row[column].problems += score.problems;
        }
    }
    let mut text = String::from(
        "            reversed           in plain order\n            answers      all   answers      all\n",
    );
    for (name, scores) in table {
        write!(text, "{name:<10}")?;
        for score in scores {
            write!(text, " {:>8.4}", score.accuracy())?;
        }
        text.push('\n');
    }
    Ok(text)
}

/// How many problems of each category are solved.
fn by_category(results: &Results) -> Result<String> {
    let mut text = String::new();
    for (name, score) in results.accuracy.iter().flat_map(|accuracy| &accuracy.categories) {
        writeln!(
            text,
            "{name:<10} {:>7.4}  {} of {}",
            score.accuracy(),
            score.correct,
            score.problems
        )?;
    }
    Ok(text)
}

/// The calculator's accuracy by operator, or how to train it.
fn calculator_accuracy(workspace: &Workspace) -> Result<String> {
    let folder = workspace.folder(CALCULATOR);
    let Ok(step) = workspace.checkpoint(CALCULATOR) else {
        return Ok(format!(
            "The calculator is not trained yet: that takes longer than this day. Train it, then run this day again:\n\n\
             {} train --task calculator --out {}\n",
            command(),
            folder.display()
        ));
    };
    let task = TaskData::of_config(&recipe(Device::current()?, Task::Calculator))?.context("there is no task")?;
    let (accuracy, sample) = Accuracy::of(&Checkpoint::load(&step)?, &task, CALCULATOR_PROBLEMS)?;
    let steps = step.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut text = format!("{steps}, {} unseen problems\n\n", accuracy.total.problems);
    for (name, score) in &accuracy.categories {
        writeln!(
            text,
            "{name}  {:>7.4}  {} of {}",
            score.accuracy(),
            score.correct,
            score.problems
        )?;
    }
    Ok(text + "\n" + &sample)
}

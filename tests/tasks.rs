//! Training on problems that are made on the fly.

mod common;

use std::collections::HashSet;
use std::fs;

use common::{fail, folder, generate, mlx_gpt, stderr, stdout, succeed, train_tiny};
use mlx_gpt::checkpoint::{Checkpoint, runs};
use mlx_gpt::config::{ConfigOverrides, Device, TrainConfig};
use mlx_gpt::data::batches::{Batch, IGNORE_INDEX, step_rng};
use mlx_gpt::data::corpus::Split;
use mlx_gpt::data::dataset::Dataset;
use mlx_gpt::data::source::Source;
use mlx_gpt::data::tasks::{Part, Problem, TaskData, calculator};
use mlx_gpt::evaluate::task::Answers;
use mlx_gpt::generate::sampler::Sampling;
use mlx_gpt::{CompletionOptions, Tokenizer};
use serde_json::Value;

/// The configuration that keys of a file resolve to.
fn config(keys: &str) -> TrainConfig {
    let file: ConfigOverrides = toml::from_str(keys).unwrap();
    let resolved = ConfigOverrides::default().resolve(&file, None, Device::Cpu, None);
    resolved.unwrap().0
}

fn task(keys: &str) -> TaskData {
    TaskData::of_config(&config(keys)).unwrap().unwrap()
}

/// A split of a task, and its tokenizer.
fn source(keys: &str, split: Split) -> (Source, Tokenizer) {
    let config = config(keys);
    let dataset = Dataset::of_config(&config).unwrap();
    let tokenizer = dataset.tokenizer(&config.tokenizer).unwrap();
    (dataset.source(&tokenizer, None, split, &config).unwrap(), tokenizer)
}

/// The text of a row, and its targets with a dot for each that is ignored.
fn shown(batch: &Batch, row: usize, tokenizer: &Tokenizer) -> (String, String) {
    let range = row * batch.context()..(row + 1) * batch.context();
    let text = |ids: &[u32]| tokenizer.decode(ids).unwrap();
    let targets = batch.targets[range.clone()].iter();
    let targets = targets.map(|&id| if id == IGNORE_INDEX { ".".into() } else { text(&[id]) });
    (text(&batch.inputs[range]), targets.collect())
}

#[test]
fn rows_hold_problems_of_which_the_answers_are_learned() {
    let (train, tokenizer) = source("task = \"addition\"\ndigits = 2", Split::Train);
    let batch = train.batch(&mut step_rng(1, 0), 200, 20);
    let mut problems = 0;
    for row in 0..200 {
        let (inputs, targets) = shown(&batch, row, &tokenizer);
        let mut place = 0;
        for line in inputs.split_inclusive('\n').filter(|line| line.len() > 1) {
            let Some((sum, answer)) = line.split_once('=') else {
                panic!("{inputs}: half a problem")
            };
            let (a, b) = sum.split_once('+').unwrap();
            let total = a.parse::<u64>().unwrap() + b.parse::<u64>().unwrap();
            let expected: String = total.to_string().chars().rev().collect();
            assert_eq!(answer.trim_end(), expected, "{inputs}");
            // Targets are a place to the left: nothing up to the equals sign, then the answer and its end.
            let learned = &targets[place + sum.len()..place + sum.len() + expected.len() + 1];
            assert_eq!(learned, format!("{expected}\n"), "{inputs}: {targets}");
            assert!(
                targets[place..place + sum.len()].chars().all(|target| target == '.'),
                "{targets}"
            );
            place += line.len();
            problems += 1;
        }
        assert!(
            targets[place.min(targets.len())..].chars().all(|target| target == '.'),
            "{targets}"
        );
    }
    assert!(
        problems > 250,
        "rows hold more than one problem where they fit: {problems}"
    );

    let (plain, tokenizer) = source(
        "task = \"addition\"\ndigits = 2\nreverse_digits = false\nmask_prompt = false",
        Split::Train,
    );
    let (inputs, targets) = shown(&plain.batch(&mut step_rng(1, 0), 1, 9), 0, &tokenizer);
    let first = inputs.split('\n').next().unwrap();
    let (sum, answer) = first.split_once('=').unwrap();
    let (a, b) = sum.split_once('+').unwrap();
    assert_eq!(
        answer,
        (a.parse::<u64>().unwrap() + b.parse::<u64>().unwrap()).to_string()
    );
    assert!(targets.starts_with(&first[1..]), "{inputs}: {targets}");
}

#[test]
fn batches_are_a_function_of_seed_and_step() {
    let (train, _) = source("task = \"addition\"", Split::Train);
    let batch = |seed, step| train.batch(&mut step_rng(seed, step), 8, 12);
    assert_eq!(batch(1, 5), batch(1, 5));
    assert_ne!(batch(1, 5), batch(1, 6));
    assert_ne!(batch(1, 5), batch(2, 5));
}

#[test]
fn held_out_problems_are_never_trained_on_in_either_order() {
    let task = task("task = \"addition\"\ndigits = 2");
    let numbers = |problem: &Problem| -> (u64, u64) {
        let (a, b) = problem.prompt.trim_end_matches('=').split_once('+').unwrap();
        let (a, b): (u64, u64) = (a.parse().unwrap(), b.parse().unwrap());
        (a.min(b), a.max(b))
    };
    let held_out: HashSet<_> = task.held_out(2000).iter().map(numbers).collect();
    let mut rng = step_rng(3, 0);
    let trained: HashSet<_> = (0..50_000)
        .map(|_| numbers(&task.sample(&mut rng, Part::Train)))
        .collect();
    assert!(held_out.is_disjoint(&trained));
    // Of 5050 pairs about a tenth is held out, and nearly all others were drawn.
    assert!((400..600).contains(&held_out.len()), "{}", held_out.len());
    assert!(held_out.len() + trained.len() > 4900, "{}", trained.len());
}

#[test]
fn every_number_of_digits_has_problems_that_fit_into_its_context() {
    for digits in 1..=18 {
        let keys = format!("task = \"addition\"\ndigits = {digits}");
        let (task, context) = (task(&keys), config(&keys).context);
        let held_out = task.held_out(50);
        assert!(!held_out.is_empty(), "{digits}");
        assert_eq!(held_out, task.held_out(50), "always the same");
        let different: HashSet<_> = held_out.iter().map(|problem| &problem.prompt).collect();
        assert_eq!(different.len(), held_out.len());
        let mut rng = step_rng(1, 0);
        let lengths = (0..2000).map(|_| {
            let problem = task.sample(&mut rng, Part::Train);
            problem.prompt.len() + problem.answer.len()
        });
        assert_eq!(lengths.max().unwrap(), context, "the new line is only predicted");
    }
}

#[test]
fn scores_count_exact_answers_by_category() {
    let problems = task("task = \"addition\"").held_out(4);
    let right = |problem: &Problem| (problem.clone(), problem.answer.clone());
    let mut answers = Answers {
        answers: problems.iter().map(right).collect(),
    };
    assert_eq!(answers.score().accuracy(), 1.0);
    answers.answers[0].1.pop();
    answers.answers[1].1.push('0');
    assert_eq!((answers.score().correct, answers.score().problems), (2, 4));
    let by_category = answers.by_category();
    assert_eq!(by_category.values().map(|score| score.problems).sum::<usize>(), 4);
    assert_eq!(by_category.values().map(|score| score.correct).sum::<usize>(), 2);
    assert!(answers.sample(1).contains("wrong: it is"), "{}", answers.sample(1));
}

/// The whole way of a task: trained without a text, evaluated, sampled, exported.
#[test]
fn a_task_is_trained_evaluated_and_exported_without_a_text() {
    let folder = folder();
    let options = [
        "--task",
        "addition",
        "--digits",
        "2",
        "--steps",
        "30",
        "--eval-every",
        "15",
        "--out",
        "run",
    ];
    let said = stderr(&succeed(&mut train_tiny(folder.path(), &options)));
    assert!(
        said.contains("task     addition: sums of two numbers of up to 2 digit(s)"),
        "{said}"
    );
    assert!(said.contains("accuracy 0."), "{said}");
    let run = folder.path().join("run");
    let recorded: TrainConfig = toml::from_str(&fs::read_to_string(run.join("config.toml")).unwrap()).unwrap();
    assert_eq!((recorded.digits, recorded.corpus.as_str()), (Some(2), ""));
    let sample = fs::read_to_string(run.join("latest/sample.txt")).unwrap();
    assert_eq!(
        sample
            .lines()
            .filter(|line| line.contains("right") || line.contains("wrong: it is"))
            .count(),
        8
    );

    let eval = |more: &[&str]| {
        let mut command = mlx_gpt(folder.path());
        command
            .args(["eval", "--device", "cpu", "--checkpoint", "run"])
            .args(more);
        command
    };
    let report: Value = serde_json::from_str(&stdout(&succeed(&mut eval(&["--json"])))).unwrap();
    let accuracy = report["accuracy"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&accuracy), "{report}");
    assert_eq!(
        accuracy,
        report["correct"].as_f64().unwrap() / report["problems"].as_f64().unwrap()
    );
    let text = stdout(&succeed(&mut eval(&[])));
    assert!(text.starts_with("accuracy") && text.contains("\n1 carry"), "{text}");
    assert!(fail(&mut eval(&["--corpus", "other.txt"])).contains("was trained on task addition"));

    let written = stdout(&succeed(&mut generate(
        folder.path(),
        &["--prompt", "12+34=", "--temperature", "0"],
    )));
    assert!(!written.is_empty());
    succeed(mlx_gpt(folder.path()).args(["export", "--checkpoint", "run", "--format", "hf", "--out", "hf"]));
    let exported = fs::read_to_string(folder.path().join("hf/config.json")).unwrap();
    let exported: Value = serde_json::from_str(&exported).unwrap();
    assert_eq!(
        (&exported["model_type"], &exported["vocab_size"]),
        (&"gpt2".into(), &13.into())
    );

    // Answers in batches are those of one prompt at a time.
    let checkpoint = Checkpoint::load(&runs::find_checkpoint(Some(&run)).unwrap()).unwrap();
    let problems = task("task = \"addition\"\ndigits = 2").held_out(40);
    let generator = checkpoint.generator().unwrap();
    let answers = Answers::of(&generator, &checkpoint.tokenizer, problems, |_| ()).unwrap();
    let model = checkpoint.language_model().unwrap();
    for (problem, answer) in &answers.answers {
        let options = CompletionOptions {
            max_new_tokens: 17 - problem.prompt.len(), // the context and one more
            sampling: Sampling::GREEDY,
            stop: vec!["\n".into()],
            ..CompletionOptions::default()
        };
        assert_eq!(
            *answer,
            model.complete(&problem.prompt, &options).unwrap().text,
            "{}",
            problem.prompt
        );
    }
}

/// Every step of the working is right, and every result is that of arithmetic; checked by a reader of the grammar that shares
/// no code with what writes it.
#[test]
fn the_calculators_working_is_right() {
    let task = task("task = \"calculator\"");
    let context = config("task = \"calculator\"").context;
    let mut rng = step_rng(1, 0);
    let (mut longest, mut operators) = (0, HashSet::new());
    for _ in 0..20_000 {
        let problem = task.sample(&mut rng, Part::Train);
        let shown = format!("{}{}", problem.prompt, problem.answer);
        longest = longest.max(shown.len());
        operators.insert(problem.category.to_string());
        for step in problem.answer.split(' ').filter(|step| step.contains('=')) {
            let (terms, result) = step.split_once('=').unwrap();
            let numbers: Vec<i64> = terms
                .split(['+', '-', '*', '/'])
                .map(|term| term.parse().unwrap())
                .collect();
            let symbols: String = terms.chars().filter(|symbol| !symbol.is_ascii_digit()).collect();
            let expected = match (&symbols[..], &numbers[..]) {
                ("++", [a, b, c]) => format!("{:02}", a + b + c),
                ("*+", [a, b, c]) => format!("{:02}", a * b + c),
                ("--", [a, b, c]) if a - b - c < 0 => format!("1{}", 10 + a - b - c),
                ("--", [a, b, c]) => format!("0{}", a - b - c),
                ("/", [a, b]) => format!("{}r{}", a / b, a % b),
                _ => panic!("{shown}: {step}"),
            };
            assert_eq!(result, expected, "{shown}");
        }
        let split = problem.prompt.find(['+', '-', '*', '/']).unwrap();
        let a: i64 = problem.prompt[..split].parse().unwrap();
        let b: i64 = problem.prompt[split + 1..].trim_end_matches('=').parse().unwrap();
        let expected = match problem.prompt.as_bytes()[split] {
            b'+' => (a + b).to_string(),
            b'-' => (a - b).to_string(),
            b'*' => (a * b).to_string(),
            _ => format!("{}r{}", a / b, a % b),
        };
        assert_eq!(problem.result(), expected, "{shown}");
        assert!(problem.is_right(&format!("another way #{expected}")));
        assert!(!problem.is_right(&problem.answer[..problem.answer.len() - 1]));
    }
    assert_eq!(operators.len(), 4);
    let right = |problem: Problem| (problem.clone(), problem.answer);
    let answers = Answers {
        answers: task.held_out(40).into_iter().map(right).collect(),
    };
    let operators: Vec<String> = answers.by_category().keys().map(ToString::to_string).collect();
    assert_eq!(operators, ["+", "-", "*", "/"], "the accuracy is listed by operator");
    assert!(longest <= context, "{longest} characters in a context of {context}");
    let most = calculator::parse("999*99").unwrap();
    assert_eq!(
        most.prompt.len() + most.answer.len(),
        context,
        "the new line is only predicted"
    );
}

#[test]
fn calculate_shows_the_working_and_refuses_what_it_cannot_take() {
    let folder = folder();
    let options = [
        "--task",
        "calculator",
        "--context",
        "124",
        "--steps",
        "2",
        "--out",
        "run",
    ];
    succeed(&mut train_tiny(folder.path(), &options));
    let calculate = |problem: &str, more: &[&str]| {
        let mut command = mlx_gpt(folder.path());
        command.args(["calculate", problem, "--device", "cpu"]).args(more);
        command
    };
    let report = succeed(&mut calculate("100 ÷ 7", &["--checkpoint", "run", "--json"]));
    let report: Value = serde_json::from_str(&stdout(&report)).unwrap();
    assert_eq!(report["problem"], "100/7");
    assert!(report["working"].is_string() && report["result"].is_string() && report["correct"].is_boolean());
    let output = succeed(&mut calculate("12-345", &["--checkpoint", "run"]));
    assert!(stdout(&output).starts_with("12-345=\n"));
    assert!(
        stderr(&output).contains("the result is -333"),
        "two steps teach nothing"
    );
    for (problem, expected) in [
        ("nonsense", "write it like 347*28"),
        ("-5+3", "write it like 347*28"),
        ("12345+1", "the calculator takes"),
        ("5/0", "cannot be divided by zero"),
    ] {
        let said = fail(&mut calculate(problem, &["--checkpoint", "run"]));
        assert!(said.contains(expected), "{problem}: {said}");
    }
    succeed(&mut train_tiny(
        folder.path(),
        &["--task", "addition", "--steps", "1", "--out", "sums"],
    ));
    assert!(fail(&mut calculate("1+2", &["--checkpoint", "sums"])).contains("is not of a run of task calculator"));
}

#[test]
fn what_a_task_cannot_be_is_said_in_one_line() {
    let folder = folder();
    fs::write(folder.path().join("text.txt"), "text").unwrap();
    fs::write(folder.path().join("masked.toml"), "mask_prompt = true\n").unwrap();
    for (options, expected) in [
        (
            &["--task", "addition", "--digits", "0"][..],
            "digits is 0; it must be from 1 to 18",
        ),
        (
            &["--task", "addition", "--digits", "99"],
            "digits is 99; it must be from 1 to 18",
        ),
        (&["--task", "addition", "--corpus", "text.txt"], "reads no text"),
        (
            &["--task", "addition", "--context", "11"],
            "choose --context 12 or more",
        ),
        (&["--task", "addition", "--tokenizer", "gpt2"], "omit --tokenizer gpt2"),
        (&["--digits", "3"], "digits is for a task"),
        (&["--task", "calculator", "--digits", "3"], "are for task addition"),
        (&["--config", "masked.toml"], "mask_prompt is for a task"),
    ] {
        let said = fail(
            mlx_gpt(folder.path())
                .args(["train", "--device", "cpu", "--out", "run"])
                .args(options),
        );
        assert!(said.contains(expected), "{options:?}: {said}");
        assert!(!folder.path().join("run").exists(), "{options:?}: nothing is left");
    }
}

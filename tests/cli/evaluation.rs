//! Losses and choices against those of `transformers` (`tests/fixtures/evaluation.json`, made by
//! `scripts/evaluation_fixtures.py`), by the library and by the command line.

use std::path::{Path, PathBuf};

use crate::common::{Fixture, fail, folder, mlx_gpt, stdout, succeed};
use mlx_gpt::checkpoint::{Checkpoint, CheckpointState, Moments};
use mlx_gpt::config::DEFAULT_CORPUS;
use mlx_gpt::data::corpus::{Corpus, Split};
use mlx_gpt::data::dataset::{CorpusRecord, SplitTokens};
use mlx_gpt::data::tokens::Tokens;
use mlx_gpt::evaluate::hellaswag::{self, Example, Score, score};
use mlx_gpt::evaluate::text::evaluate_checkpoint;
use mlx_gpt::tokenizer::CharTokenizer;
use serde::Deserialize;
use serde_json::Value;

/// Nats per token. A token's loss of about 4 is computed in float32 to some 1e-6 by either side; the losses of two
/// strides are 3e-4 apart or more.
const LOSS_TOLERANCE: f64 = 1e-5;

/// Nats, over the up to 23 tokens of an ending: as above, and errors of one sign would add up.
const SUM_TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Expected {
    strides: Vec<StrideCase>,
    hellaswag: Vec<Choice>,
}

#[derive(Deserialize)]
struct StrideCase {
    text: String,
    stride: usize,
    loss: f64,
}

#[derive(Deserialize)]
struct Choice {
    losses: Vec<f64>,
    tokens: Vec<usize>,
    label: usize,
    dropped: usize,
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn expected() -> Expected {
    serde_json::from_slice(&std::fs::read(repository("tests/fixtures/evaluation.json")).unwrap()).unwrap()
}

/// The fixture's model of 24 positions with the 65 characters of the default corpus, to be saved as `folder/model`.
fn checkpoint(folder: &Path) -> Checkpoint {
    let fixture = Fixture::load();
    Checkpoint {
        folder: folder.join("model"),
        model: fixture.model.clone(),
        parameters: fixture.parameters.clone(),
        tokenizer: CharTokenizer::from_text(Corpus::open(DEFAULT_CORPUS).unwrap().text(Split::All)).into(),
        chat_template: None,
        base: None,
    }
}

/// Saves it for the command line, as a step of some run.
fn save(checkpoint: &Checkpoint) {
    let moments = Moments {
        m: checkpoint.parameters.clone(),
        v: checkpoint.parameters.clone(),
        apart: None,
        pair_logprobs: None,
    };
    let corpus = CorpusRecord {
        sha256: String::new(),
        split_offset: 0,
    };
    checkpoint
        .save(&moments, &CheckpointState::new(0, corpus, None), "")
        .unwrap();
}

fn examples(checkpoint: &Checkpoint) -> Vec<Example> {
    hellaswag::read(
        &repository("assets/endings.jsonl"),
        &checkpoint.tokenizer,
        checkpoint.model.context,
    )
    .unwrap()
}

fn scores(checkpoint: &Checkpoint, examples: &[Example]) -> Vec<Score> {
    score(checkpoint, examples, |_| ()).unwrap().scores
}

/// How far apart two lists of losses are at most.
fn off(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn losses_by_stride_are_those_of_transformers() {
    let folder = folder();
    let checkpoint = checkpoint(folder.path());
    for case in expected().strides {
        let part = SplitTokens {
            tokens: Tokens::Memory(checkpoint.tokenizer.encode(&case.text).unwrap()),
            bytes: Some(case.text.len() as u64),
        };
        let mut heard = 0;
        let (result, bits_per_byte) =
            evaluate_checkpoint(&checkpoint, &part, case.stride, |tokens| heard += tokens).unwrap();
        let what = format!("{} characters, stride {}", case.text.len(), case.stride);
        assert_eq!(result.tokens, case.text.len() - 1, "{what}");
        assert_eq!(heard, result.tokens, "{what}: the progress bar ends at its end");
        let difference = (result.loss() - case.loss).abs();
        assert!(difference < LOSS_TOLERANCE, "{what}: off by {difference:e}");
        let difference = (bits_per_byte.unwrap() - result.loss() / std::f64::consts::LN_2).abs();
        assert!(difference < 1e-12, "{what}: one byte a character");
    }
}

#[test]
fn the_command_line_measures_with_a_stride_and_says_it() {
    let folder = folder();
    save(&checkpoint(folder.path()));
    let eval = |more: &[&str]| {
        let mut command = mlx_gpt(folder.path());
        command
            .args([
                "eval",
                "--device",
                "cpu",
                "--checkpoint",
                "model",
                "--corpus",
                "text.txt",
            ])
            .args(more);
        command
    };
    let json = |more: &[&str]| -> Value { serde_json::from_str(&stdout(&succeed(&mut eval(more)))).unwrap() };
    for case in &expected().strides[..5] {
        std::fs::write(folder.path().join("text.txt"), &case.text).unwrap();
        let result = json(&["--json", "--stride", &case.stride.to_string()]);
        assert_eq!(result["stride"], case.stride);
        assert_eq!(result["context"], 24);
        assert_eq!(result["tokens"], case.text.len() - 1);
        let difference = (result["loss"].as_f64().unwrap() - case.loss).abs();
        assert!(difference < LOSS_TOLERANCE, "off by {difference:e}");
        if case.stride == 24 {
            assert_eq!(json(&["--json"]), result, "windows lie end to end by default");
        }
    }
    let said = stdout(&succeed(&mut eval(&["--stride", "7"])));
    assert!(said.contains("stride         7, in windows of 24 tokens"), "{said}");
    for stride in ["0", "25"] {
        let said = fail(&mut eval(&["--stride", stride]));
        assert!(
            said.contains(&format!(
                "stride is {stride}; it must be from 1 to the model's context, 24"
            )),
            "{said}"
        );
    }
}

#[test]
fn endings_are_scored_as_transformers_scores_them() {
    let folder = folder();
    let checkpoint = checkpoint(folder.path());
    let scores = scores(&checkpoint, &examples(&checkpoint));
    let expected = expected().hellaswag;
    assert_eq!(scores.len(), expected.len());
    assert!(scores.iter().any(|score| score.dropped == 0) && scores.iter().any(|score| score.dropped > 0));
    for (number, (score, expected)) in scores.iter().zip(&expected).enumerate() {
        assert_eq!(score.tokens, expected.tokens, "example {number}");
        assert_eq!(score.label, expected.label, "example {number}");
        assert_eq!(score.dropped, expected.dropped, "example {number}");
        let off = off(&score.losses, &expected.losses);
        assert!(off < SUM_TOLERANCE, "example {number}: off by {off:e}");
    }
}

/// Shapes of matrices may change the order of sums in float32, and nothing else.
#[test]
fn neither_padding_nor_company_in_a_batch_changes_a_score() {
    let folder = folder();
    let checkpoint = checkpoint(folder.path());
    let examples = examples(&checkpoint);
    let together = scores(&checkpoint, &examples); // all of the file's endings in one batch, padded to its longest
    for (example, score) in examples.iter().zip(&together) {
        let by_itself = &scores(&checkpoint, std::slice::from_ref(example))[0];
        assert!(off(&by_itself.losses, &score.losses) < LOSS_TOLERANCE);
        // A row of its own, without padding.
        let alone: Vec<f64> = example
            .endings
            .iter()
            .map(|ending| {
                let example = Example {
                    endings: vec![ending.clone()],
                    label: 0,
                    ..example.clone()
                };
                scores(&checkpoint, &[example])[0].losses[0]
            })
            .collect();
        assert!(off(&alone, &score.losses) < LOSS_TOLERANCE);
    }
}

#[test]
fn the_command_line_chooses_endings() {
    let folder = folder();
    save(&checkpoint(folder.path()));
    let eval = |more: &[&str]| {
        let mut command = mlx_gpt(folder.path());
        command
            .args(["eval", "--device", "cpu", "--checkpoint", "model", "--hellaswag"])
            .arg(repository("assets/endings.jsonl"))
            .args(more);
        command
    };
    let result: Value = serde_json::from_str(&stdout(&succeed(&mut eval(&["--json"])))).unwrap();
    let expected = expected().hellaswag;
    assert_eq!(result["examples"], expected.len());
    assert_eq!(
        result["truncated"],
        expected.iter().filter(|choice| choice.dropped > 0).count()
    );
    // No two endings of an example are closer than the tolerance, so that the choices are transformers' own.
    let best = |values: &[f64]| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        assert!(values[order[1]] - values[order[0]] > SUM_TOLERANCE);
        order[0]
    };
    let (mut right, mut right_normalized) = (0, 0);
    for (choice, score) in expected.iter().zip(result["scores"].as_array().unwrap()) {
        let lengths = choice.tokens.iter().map(|&tokens| tokens as f64);
        let means: Vec<f64> = choice
            .losses
            .iter()
            .zip(lengths)
            .map(|(sum, length)| sum / length)
            .collect();
        assert_eq!(score["chosen"], best(&choice.losses));
        assert_eq!(score["chosen_normalized"], best(&means));
        right += usize::from(best(&choice.losses) == choice.label);
        right_normalized += usize::from(best(&means) == choice.label);
    }
    let accuracy = [right, right_normalized].map(|right| right as f64 / expected.len() as f64);
    assert_eq!(result["accuracy"], accuracy[0]);
    assert_eq!(result["accuracy_normalized"], accuracy[1]);

    let said = stdout(&succeed(&mut eval(&[])));
    for line in [
        format!("accuracy    {:.4} by the sum", accuracy[0]),
        format!("normalized  {:.4} by their mean", accuracy[1]),
        "examples    24".into(),
        "to fit into a context of 24".into(),
    ] {
        assert!(said.contains(&line), "{line}: {said}");
    }
    // A text and a file of endings are two questions.
    for other in [["--corpus", "text.txt"], ["--split", "all"], ["--stride", "3"]] {
        assert_eq!(eval(&other).output().unwrap().status.code(), Some(2), "{other:?}");
    }
}

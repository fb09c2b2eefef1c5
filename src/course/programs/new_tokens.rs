//! Day 10: new tokens in a trained model: a special one, and some in place of a prompt.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Instant;

use mlx_rs::error::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops, random};

use super::day08::FURTHER;
use super::day10::FINETUNED;
use super::fitting::{minimize, too_few_steps, trained, trained_once};
use crate::checkpoint::Checkpoint;
use crate::config::Precision;
use crate::course::day02::{cross_entropy, get_batch};
use crate::course::day03::Weights;
use crate::course::day07::{Shape, gpt};
use crate::course::day09::{Cache, gpt_with_cache};
use crate::data::batches::{row_starts, step_rng};
use crate::data::corpus::Split;
use crate::lessons::arrays::{largest_difference_by_name, token_labels};
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::workspace::Workspace;
use crate::model::loss::negative_log_likelihood;
use crate::model::parameters::Parameters;
use crate::model::vocabulary::{add_tokens, join_rows, split_rows};
use crate::tokenizer::SpecialTokenPolicy;

/// The new token, between the speeches, in place of an empty line.
const SPEECH: &str = "<|speech|>";
const SPEECH_STEPS: u64 = 50;

/// A special token: figures and claims.
pub fn special(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let steps = workspace.at_most(SPEECH_STEPS);
    let folder = || workspace.folder("day-10-speech");
    page.figure("new-token.txt", || {
        let of = workspace.results(FINETUNED.folder)?.val_loss.to_string();
        trained_once(workspace, "day-10-speech.safetensors", steps, &of, || {
            train_speech(workspace, steps, &folder())
        })
    })?;
    page.claim(
        "a token was added and trained, and every other number of the model stayed what it was, to the bit",
        "add_tokens, split_rows and join_rows in src/model/vocabulary.rs",
        || {
            let (before, after) = (workspace.load(FINETUNED.folder)?, Checkpoint::load(&folder())?);
            let id = before.tokenizer.vocab_size();
            let (rest, row) = split_rows(&after.parameters, id as i32, 1)?;
            let difference = largest_difference_by_name(&Weights::from(&rest), &Weights::from(&before.parameters))?;
            let (_, mean) = add_tokens(&before.model, &before.parameters, id, 1)?;
            let trained = !row
                .get("wte.weight")?
                .eq_values(split_rows(&mean, id as i32, 1)?.1.get("wte.weight")?)?;
            let added = after.tokenizer.encode_with(SPEECH, &SpecialTokenPolicy::ALLOW)? == [id as u32];
            let measured = format!("largest difference {difference}");
            Ok(CheckResult::passes_if(difference == 0.0 && trained && added, measured))
        },
    )?;
    page.claim(
        "a new row that is the mean of the others gives its token at most one of V parts of the probability, anywhere",
        "add_tokens in src/model/vocabulary.rs",
        || {
            let extended = workspace.load(FINETUNED.folder)?.with_special_tokens(&[SPEECH])?;
            let (weights, shape) = (Weights::from(&extended.parameters), Shape::from(&extended.model));
            let ids = speeches(workspace, &extended, Split::Val, 2000)?;
            let (inputs, targets) = get_batch(&ids, &[0, 64, 128], shape.context as usize);
            let new = Array::full::<u32>(targets.shape(), Array::from_slice(&[shape.vocab_size as u32 - 1], &[]))?;
            let losses = negative_log_likelihood(&gpt(&inputs, &weights, &shape)?, &new)?;
            let largest = losses.min(None)?.negative()?.exp()?.try_item_exact::<f32>()? * (shape.vocab_size - 1) as f32;
            // The logit is the mean of the others, and exp of a mean is at most the mean of exp; float32.
            Ok(CheckResult::passes_if(
                largest < 1.001,
                format!("at most {largest:.3} / V"),
            ))
        },
    )
}

/// Adds the token, trains its row, writes the model into a folder; gives the row, and what the chapter shows.
fn train_speech(workspace: &Workspace, steps: u64, folder: &Path) -> anyhow::Result<(Weights, String)> {
    let started = Instant::now();
    // ANCHOR: extend
    let extended = workspace.load(FINETUNED.folder)?.with_special_tokens(&[SPEECH])?;
    let id = extended.tokenizer.special_tokens()[SPEECH];
    let (rest, row) = split_rows(&extended.parameters, id as i32, 1)?; // all other rows and weights; the new row
    // ANCHOR_END: extend
    let shape = Shape::from(&extended.model);
    let with = |row: &Array| {
        let row = Parameters::from_entries(vec![("wte.weight".into(), row.clone())]);
        join_rows(&rest, &row, id as i32)
    };
    let train = speeches(workspace, &extended, Split::Train, 200_000)?;
    let val = speeches(workspace, &extended, Split::Val, 12_000)?;
    let context = shape.context as usize;
    let mean = row.get("wte.weight")?.clone(); // [1, C]
    // ANCHOR: train_row
    let row = Weights::from([("row".to_owned(), mean.clone())]);
    let (trained, _) = minimize(row, steps, 2e-2, |row, step| {
        let starts = row_starts(&mut step_rng(workspace.seed(), step), 8, train.len(), context);
        let (ids, targets) = get_batch(&train, &starts, context);
        let weights = Weights::from(&with(&row["row"])?);
        cross_entropy(&gpt(&ids, &weights, &shape)?, &targets)
    })?;
    // ANCHOR_END: train_row
    let (all, learned, seconds) = (val.len(), mean.size(), started.elapsed().as_secs_f32());
    let count = val.iter().filter(|&&other| other == id).count();
    let mut out = format!(
        "{SPEECH} is {id}: {count} of {all} tokens; {learned} parameters learn, {steps} steps in {seconds:.0} s\n\n\
         {:<26}  its probability  loss where it comes  loss elsewhere\n",
        "its row",
    );
    let random = random::normal::<f32>(mean.shape(), None, 0.02, &random::key(workspace.seed())?)?;
    let rows = [
        ("random, deviation 0.02", &random),
        ("the mean of all others", &mean),
        ("trained", &trained["row"]),
    ];
    for (name, row) in rows {
        let [probability, new, other] = measure(&val, id, &Weights::from(&with(row)?), &shape)?;
        writeln!(out, "{name:<26}  {probability:>15.1e}  {new:>19.3}  {other:>14.3}")?;
    }
    let saved = Checkpoint {
        parameters: with(&trained["row"])?,
        ..extended
    };
    fs::create_dir_all(folder)?;
    saved.write_model(folder, Precision::Float32)?;
    Ok((trained, out))
}

/// The beginning of a split of the plays, with the new token, as ids.
fn speeches(
    workspace: &Workspace,
    checkpoint: &Checkpoint,
    split: Split,
    characters: usize,
) -> anyhow::Result<Vec<u32>> {
    let text: String = workspace.text(split).chars().take(characters).collect();
    let policy = SpecialTokenPolicy::ALLOW;
    checkpoint.tokenizer.encode_with(&text.replace("\n\n", SPEECH), &policy)
}

/// The mean probability of the token `new` where another one comes, the mean loss where it comes, and the mean loss elsewhere.
fn measure(tokens: &[u32], new: u32, weights: &Weights, shape: &Shape) -> anyhow::Result<[f32; 3]> {
    let context = shape.context as usize;
    let starts: Vec<usize> = (0..(tokens.len() - 1) / context).map(|row| row * context).collect();
    let (mut sums, mut counts) = ([0.0; 3], [0.0; 3]);
    for starts in starts.chunks(8) {
        let (ids, targets) = get_batch(tokens, starts, context);
        let logits = gpt(&ids, weights, shape)?; // [B, T, V]
        let every = Array::full::<u32>(targets.shape(), Array::from_slice(&[new], &[]))?;
        let of = |targets: &Array| -> anyhow::Result<Vec<f32>> {
            Ok(negative_log_likelihood(&logits, targets)?
                .flatten(None, None)?
                .to_vec_exact()?)
        };
        let targets_list: Vec<u32> = targets.flatten(None, None)?.to_vec_exact()?;
        for ((target, loss), of_new) in targets_list.into_iter().zip(of(&targets)?).zip(of(&every)?) {
            let parts = if target == new {
                vec![(1, loss)]
            } else {
                vec![(0, (-of_new).exp()), (2, loss)]
            };
            for (part, number) in parts {
                sums[part] += number;
                counts[part] += 1.0;
            }
        }
    }
    Ok([0, 1, 2].map(|part| sums[part] / counts[part]))
}

/// Tokens of the prompt, and of the texts that continue it.
const PROMPT: usize = 32;
const CONTINUED: usize = 24;
const PROMPT_STEPS: u64 = 150;
/// As many new tokens are trained; their rows.
const COUNTS: [usize; 3] = [1, 2, 4];
const PROMPT_FILE: &str = "day-10-prompt.safetensors";

/// A model, a prompt, and what the model writes after it.
struct Prompted {
    shape: Shape,
    parameters: Parameters,
    prompt: Vec<u32>,
    /// `[N, CONTINUED]`.
    texts: Array,
    /// The logarithms of the model's probabilities for these texts after the prompt, `[N, CONTINUED, V]`.
    expected: Array,
}

impl Prompted {
    fn new(workspace: &Workspace) -> anyhow::Result<Self> {
        let checkpoint = workspace.load(FURTHER.folder)?;
        let (weights, shape) = (Weights::from(&checkpoint.parameters), Shape::from(&checkpoint.model));
        let beginning: String = workspace.text(Split::Val).chars().take(PROMPT).collect();
        let prompt = checkpoint.tokenizer.encode(&beginning)?;
        let mut keys = random::RandomState::with_seed(workspace.seed())?;
        let rows = 256;
        let mut ids = rows_of(&prompt, rows);
        let (mut cache, mut texts) = (Cache::new(shape.layers), Vec::new());
        for _ in 0..CONTINUED {
            let logits = gpt_with_cache(&ids, &weights, &shape, &mut cache)?.try_index((.., -1))?; // [N, V]
            ids = random::categorical(&logits, -1, None, &keys.next_key()?)?.expand_dims(-1)?; // [N, 1]
            texts.push(ids.clone());
        }
        let mut new = Self {
            shape,
            parameters: checkpoint.parameters,
            texts: ops::concatenate(&texts, 1)?,
            expected: Array::from_f32(0.0),
            prompt,
        };
        new.expected = new.log_probabilities(&new.prompt, &weights, &new.texts)?;
        new.expected.eval()?;
        Ok(new)
    }

    /// The logarithms of the probabilities of the texts' tokens `[B, T]` after `prompt`, among the V old tokens: `[B, T, V]`.
    fn log_probabilities(&self, prompt: &[u32], weights: &Weights, texts: &Array) -> Result<Array> {
        let before = rows_of(prompt, texts.dim(0) as usize);
        let ids = ops::concatenate(&[before, texts.try_index((.., ..-1))?], 1)?;
        let logits = gpt(&ids, weights, &self.shape)?;
        let logits = logits.try_index((.., prompt.len() as i32 - 1.., ..self.shape.vocab_size))?;
        logits.subtract(logits.logsumexp_axis(-1, true)?)
    }

    /// KL divergence per token, in nats, of the model after `prompt` from the model after the whole prompt, on the rows from `from`
    /// to `to` of the texts.
    fn divergence(&self, prompt: &[u32], weights: &Weights, [from, to]: [i32; 2]) -> Result<Array> {
        // ANCHOR: divergence
        let expected = self.expected.try_index(from..to)?; // [B, T, V]
        let here = self.log_probabilities(prompt, weights, &self.texts.try_index(from..to)?)?;
        let terms = expected.exp()?.multiply(expected.subtract(here)?)?;
        terms.sum_axis(-1, false)?.mean(None)
        // ANCHOR_END: divergence
    }

    /// The weights with these rows for new tokens after the old ones, and the new tokens' ids.
    fn with(&self, rows: &Array) -> Result<(Weights, Vec<u32>)> {
        let new = Parameters::from_entries(vec![("wte.weight".into(), rows.clone())]);
        let weights = Weights::from(&join_rows(&self.parameters, &new, self.shape.vocab_size)?);
        let first = self.shape.vocab_size as u32;
        Ok((weights, (first..first + rows.dim(0) as u32).collect()))
    }

    /// Rows for that many new tokens, trained to stand for the prompt.
    fn train(&self, count: i32, steps: u64) -> anyhow::Result<Array> {
        let embeddings = self.parameters.get("wte.weight")?;
        let rows = ops::broadcast_to(embeddings.mean_axis(0, true)?, &[count, embeddings.dim(1)])?;
        let start = Weights::from([("rows".to_owned(), rows)]);
        let (trained, _) = minimize(start, steps, 5e-2, |rows, step| {
            let (weights, ids) = self.with(&rows["rows"])?;
            let first = 32 * (step % 6) as i32;
            self.divergence(&ids, &weights, [first, first + 32])
        })?;
        Ok(trained["rows"].clone())
    }
}

impl Prompted {
    /// The number of these tokens, and the divergence with them in place of the prompt, on the texts that no row is trained on.
    fn line(&self, tokens: &[u32]) -> anyhow::Result<(usize, f32)> {
        let divergence = self.divergence(tokens, &Weights::from(&self.parameters), HELD_OUT)?;
        Ok((tokens.len(), divergence.try_item_exact()?))
    }

    /// The same with new tokens of these rows.
    fn with_new(&self, rows: &Array) -> anyhow::Result<f32> {
        let (weights, ids) = self.with(rows)?;
        Ok(self.divergence(&ids, &weights, HELD_OUT)?.try_item_exact()?)
    }
}

/// The same tokens in each of `rows` rows.
fn rows_of(tokens: &[u32], rows: usize) -> Array {
    Array::from_slice(&tokens.repeat(rows), &[rows as i32, tokens.len() as i32])
}

/// The texts that no row is trained on.
const HELD_OUT: [i32; 2] = [192, 256];

/// Tokens in place of a prompt: figures and claims.
pub fn compressed_prompt(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let steps = workspace.at_most(PROMPT_STEPS);
    page.figure("compressed.txt", || {
        let of = workspace.results(FURTHER.folder)?.val_loss.to_string();
        trained_once(workspace, PROMPT_FILE, steps, &of, || {
            let prompted = Prompted::new(workspace)?;
            let (started, mut trained) = (Instant::now(), Weights::new());
            for count in COUNTS {
                trained.insert(count.to_string(), prompted.train(count as i32, steps)?);
            }
            let seconds = started.elapsed().as_secs_f32();
            let mut lines = vec![(
                "nothing but a line break",
                prompted.line(&workspace.tokenizer()?.encode("\n")?)?,
            )];
            for count in COUNTS {
                lines.push((
                    "the prompt's last tokens",
                    prompted.line(&prompted.prompt[PROMPT - count..])?,
                ));
            }
            for rows in trained.values() {
                lines.push(("new tokens", (rows.dim(0) as usize, prompted.with_new(rows)?)));
            }
            lines.push(("the whole prompt", prompted.line(&prompted.prompt)?));
            let mut out = format!(
                "prompt  {}\n{steps} steps for each, {seconds:.0} s in all\n\n\
                 in place of the prompt     tokens  divergence, nats per token\n",
                token_labels(workspace.tokenizer()?, &prompted.prompt)?.concat()
            );
            for (name, (tokens, divergence)) in lines {
                writeln!(out, "{name:<25}  {tokens:>6}  {divergence:>10.4}")?;
            }
            Ok((trained, out))
        })
    })?;
    page.claim(
        "four new tokens stand for the prompt better than its own last four, and better than one new token",
        "join_rows in src/model/vocabulary.rs, the training: `lesson 10`",
        || {
            let Some(trained) = trained(workspace, 10, PROMPT_FILE, PROMPT_STEPS)? else {
                return Ok(too_few_steps());
            };
            let prompted = Prompted::new(workspace)?;
            let [one, four] = [prompted.with_new(&trained["1"])?, prompted.with_new(&trained["4"])?];
            let (_, last) = prompted.line(&prompted.prompt[PROMPT - 4..])?;
            let measured = format!("{four:.4}, {last:.4} and {one:.4} nats per token");
            Ok(CheckResult::passes_if(four < last && four < one, measured))
        },
    )
}

//! Day 2: the figures and claims of its chapter, in its order.

use std::fmt::Write;

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};
use rand::RngExt;

use crate::checkpoint::Checkpoint;
use crate::config::{Architecture, TrainConfig};
use crate::course::day02::{bigram_logits, count_bigrams, cross_entropy, get_batch, sample, split};
use crate::data::batches::{Batch, row_starts, step_rng};
use crate::data::corpus::Split;
use crate::data::tokens::Tokens;
use crate::generate::sample_rng;
use crate::lessons::arrays::{larger, largest_difference, rows, table, token_labels, visible};
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::pytorch::PyTorch;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe, pictures};
use crate::model::loss::negative_log_likelihood;
use crate::model::{Model, Parameters};

/// Day 2.
pub const LESSON: Lesson = Lesson {
    day: 2,
    title: "Data, and the bigram model",
    teaches: "text as examples, what a loss is, and the smallest model that learns",
    chapter: include_str!("../../../book/src/day-02.md"),
    models: &[BIGRAM],
    needs: &[],
    program,
};

/// Day 2's model. Each logit is updated rarely and directly, so it tolerates thirty times the learning rate of the whole GPT.
pub const BIGRAM: Recipe = Recipe {
    folder: "day-02",
    what: "bigram table",
    change: |config| TrainConfig {
        lr: 3e-2,
        min_lr: 3e-3,
        ..config.with_architecture(Architecture::Bigram)
    },
    starts_from: None,
    band: (2.51, 2.54),
};

/// Context of a batch that is small enough to print.
const CHUNK: usize = 8;
/// Its rows.
const ROWS: usize = 4;

fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let tokenizer = workspace.tokenizer()?;
    let text = |ids: &[u32]| anyhow::Ok(token_labels(tokenizer, ids)?.concat());
    let all = tokenizer.encode(workspace.text(Split::All))?;
    let (train, validation) = split(&all);
    page.figure("split.txt", || {
        let mut shown = String::new();
        for (name, ids) in [("all", &all[..]), ("training", train), ("validation", validation)] {
            let begins = text(&ids[..ids.len().min(30)])?;
            writeln!(shown, "{name:<10}  {:>8} tokens  {begins} …", ids.len())?;
        }
        Ok(shown)
    })?;
    page.figure("examples.txt", || {
        let (inputs, targets) = get_batch(train, &[0], CHUNK); // [1, T]
        let (inputs, targets) = (ids_of(&inputs)?, ids_of(&targets)?);
        let mut shown = format!("inputs   {inputs:?}\ntargets  {targets:?}\n\n");
        for (place, &target) in targets.iter().enumerate() {
            let context = &inputs[..=place];
            let (seen, next) = (text(context)?, text(&[target])?);
            writeln!(shown, "after {seen:<CHUNK$} comes {next}    {context:?} → {target}")?;
        }
        Ok(shown)
    })?;

    let starts = |step: u64| row_starts(&mut step_rng(workspace.seed(), step), ROWS, train.len(), CHUNK);
    let (inputs, targets) = get_batch(train, &starts(0), CHUNK); // [B, T]
    page.figure("batch.txt", || {
        let mut shown = format!("rows begin at {:?}\n", starts(0));
        for (name, array) in [("inputs", &inputs), ("targets", &targets)] {
            writeln!(shown, "\n{name} {:?}", array.shape())?;
            for row in ids_of(array)?.chunks(CHUNK) {
                let numbers: String = row.iter().map(|id| format!("{id:>4}")).collect();
                writeln!(shown, "{numbers}    {}", text(row)?)?;
            }
        }
        Ok(shown)
    })?;
    page.claim(
        "split and batch are the library's: a function of seed and step, with targets shifted by one token",
        "split and get_batch in src/course/day02.rs, train_part in src/data/corpus.rs, Batch::gather in src/data/batches.rs",
        || {
            let tokens = tokenizer.encode(workspace.text(Split::Train))?;
            let mut same = tokens == train;
            let library = Batch::gather(&Tokens::Memory(tokens), &starts(0), CHUNK);
            let (inputs, targets) = (ids_of(&inputs)?, ids_of(&targets)?);
            for (inputs, targets) in inputs.chunks(CHUNK).zip(targets.chunks(CHUNK)) {
                same &= inputs[1..] == targets[..CHUNK - 1];
            }
            same &= inputs == library.inputs && targets == library.targets;
            same &= starts(5) == starts(5) && starts(5) != starts(6);
            Ok(CheckResult::passes_if(same, format!("{} targets", targets.len())))
        },
    )?;
    let (model, parameters) = workspace.untrained(&BIGRAM)?;
    let untrained = parameters.get("wte.weight")?; // [V, V]
    let vocab_size = untrained.dim(0);
    // The exact loss on the validation text of a model with that table.
    let loss_of = |table: &Array| anyhow::Ok(workspace.measure(&with_table(workspace, table)?)?.0);
    page.figure("table.txt", || {
        let (labels, part) = cut(workspace, untrained, " aehnot")?;
        let head: String = labels.iter().map(|label| format!(" {label:>7}")).collect();
        Ok(format!(
            "wte.weight {:?}: {} numbers, of which these are a few\n\n {head}\n{}",
            untrained.shape(),
            untrained.size(),
            table(&labels, &part, 3)?
        ))
    })?;
    let logits = bigram_logits(untrained, &inputs)?; // [B, T, V]
    page.claim(
        "only the last token counts: the tokens before it change nothing, in the library's model too",
        "bigram_logits in src/course/day02.rs, Bigram::forward in src/model/bigram.rs",
        || {
            let library = Model::new(&model, &parameters)?;
            let alone = library.forward(&inputs.try_index((.., 1..))?, None)?; // [B, T - 1, V]
            let difference = largest_difference(&logits.try_index((.., 1..))?, &alone)?;
            // The same rows of the same table.
            Ok(CheckResult::within_tolerance(difference, 0.0))
        },
    )?;

    page.claim(
        "the cross entropy is the library's and PyTorch's",
        "cross_entropy in src/course/day02.rs, negative_log_likelihood in src/model/loss.rs",
        || {
            let library = negative_log_likelihood(&logits, &targets)?.mean(None)?;
            let library_off = largest_difference(&cross_entropy(&logits, &targets)?, &library)?;
            let pytorch = PyTorch::read()?;
            let shape = [pytorch.batch.rows as i32, pytorch.batch.context() as i32];
            let [inputs, targets] =
                [&pytorch.batch.inputs, &pytorch.batch.targets].map(|ids| Array::from_slice(ids, &shape));
            let logits = Model::new(&pytorch.model, &pytorch.parameters)?.forward(&inputs, None)?;
            let pytorch_off = largest_difference(&cross_entropy(&logits, &targets)?, &pytorch.answer("loss")?)?;
            // A mean of some hundred losses around 4 in float32, from logits that themselves agree to about 1e-6.
            Ok(CheckResult::within_tolerance(larger(library_off, pytorch_off), 5e-6))
        },
    )?;
    let uniform = f64::from(vocab_size).ln();
    page.figure("untrained.txt", || {
        let loss = loss_of(untrained)?;
        Ok(format!(
            "loss of the untrained table  {loss:.4}\nln({vocab_size})                       {uniform:.4}\n"
        ))
    })?;
    page.claim(
        "a uniform prediction has a loss of ln(vocabulary), and an untrained table is close to it",
        "cross_entropy in src/course/day02.rs, negative_log_likelihood in src/model/loss.rs, layout in src/model/init.rs",
        || {
            let zeros = ops::zeros::<f32>(&[vocab_size, vocab_size])?;
            let loss: f32 = cross_entropy(&bigram_logits(&zeros, &inputs)?, &targets)?.try_item_exact()?;
            let (by_hand, library) = (f64::from(loss) - uniform, loss_of(&zeros)? - uniform);
            let untrained = loss_of(untrained)? - uniform;
            // A logarithm in float32 is right to about 5e-7 between 4 and 8. Of logits of N(0, 0.02) a mean over a few hundred
            // frequent pairs is left: some 0.002.
            let holds = by_hand.abs() <= 2e-6 && library.abs() <= 2e-6 && untrained.abs() <= 0.01;
            let measured = format!("off by {by_hand:.1e} and {library:.1e}, untrained by {untrained:.1e}");
            Ok(CheckResult::passes_if(holds, measured))
        },
    )?;

    let start = tokenizer.default_prompt()[0];
    let mut rng = sample_rng(workspace.seed(), 0);
    let uniforms: Vec<f32> = (0..150).map(|_| rng.random::<f64>() as f32).collect();
    let written = generate(untrained, start, &uniforms)?;
    page.figure("writing.txt", || tokenizer.decode(&written[1..]))?;
    page.claim(
        "generation is a loop of look-up and sampling: this day's loop generates the same text as `generate`",
        "sample in src/course/day02.rs, generate in src/course/programs/day02.rs, Sampling::sample in src/generate/sampler.rs",
        || {
            let checkpoint = with_table(workspace, untrained)?;
            let library = workspace.sample(&checkpoint, &tokenizer.decode(&[start])?, uniforms.len())?;
            let library = tokenizer.encode(&library)?;
            let differs = (0..uniforms.len()).find(|&at| library.get(at) != written.get(at + 1));
            let probabilities = rows(&ops::softmax_axis(untrained, -1, true)?)?; // V × V
            // Sums of V probabilities in float32 are right to about 1e-6: a random number that close to one may fall on its
            // other side.
            let is_rounding = |at: usize| {
                let row = &probabilities[written[at] as usize];
                sample(row, uniforms[at] - 1e-5) != sample(row, uniforms[at] + 1e-5)
            };
            let measured = format!("{} tokens", differs.unwrap_or(library.len()));
            Ok(CheckResult::passes_if(differs.is_none_or(is_rounding), measured))
        },
    )?;

    page.figure("training.txt", || Ok(workspace.train(&BIGRAM)?.summary()))?;
    let learned = || workspace.embedding(BIGRAM.folder); // the labels of all tokens, and the trained table
    page.figure("table.svg", || {
        let chances = ops::softmax_axis(learned()?.1, -1, true)?;
        let (labels, part) = cut(workspace, &chances, "\n abcdefghijklmnopqrstuvwxyz,.:;'")?;
        // Most probabilities are small: their square roots are easier to distinguish.
        let shades = rows(&part.sqrt()?)?;
        let title = "What follows what (row: the last character, column: the next)";
        pictures::heat_map(title, &labels, &labels, &shades)
    })?;
    let counts = count_bigrams(train, vocab_size); // [V, V]
    page.figure("followers.txt", || {
        let (names, table) = learned()?;
        let [learned, counted] = [&table, &counts].map(|table| rows(&ops::softmax_axis(table, -1, true)?));
        let (learned, counted) = (learned?, counted?);
        let mut shown = String::from("after   most likely, learned (counted)\n");
        for asked in "qthe,.\n ".chars().map(visible) {
            let Some(row) = names.iter().position(|name| *name == asked) else {
                continue;
            };
            let mut order: Vec<usize> = (0..names.len()).collect();
            order.sort_by(|&a, &b| learned[row][b].total_cmp(&learned[row][a]));
            let mut followers = String::new();
            for next in order.into_iter().take(5) {
                let (learned, counted) = (learned[row][next], counted[row][next]);
                write!(followers, "  {} {learned:.2} ({counted:.2})", names[next])?;
            }
            writeln!(shown, "{asked}     {followers}")?;
        }
        Ok(shown)
    })?;
    page.claim(
        "counted probabilities are the relative frequencies of the pairs, with each counted once more",
        "count_bigrams in src/course/day02.rs",
        || {
            let (last, next) = (train[0], train[1]);
            let followers: Vec<u32> = train
                .windows(2)
                .filter(|pair| pair[0] == last)
                .map(|pair| pair[1])
                .collect();
            let count = 1 + followers.iter().filter(|&&id| id == next).count();
            let frequency = count as f32 / (followers.len() + vocab_size as usize) as f32;
            let counted = rows(&ops::softmax_axis(&counts, -1, true)?)?[last as usize][next as usize];
            // One division by a sum of at most V numbers in float32.
            Ok(CheckResult::within_tolerance((counted - frequency).abs(), 1e-6))
        },
    )?;
    page.figure("counting.txt", || {
        let (learned, counted) = (workspace.results(BIGRAM.folder)?, loss_of(&counts)?);
        Ok(format!(
            "loss on the validation text\nlearned in {:>4} steps  {:.4}\ncounted at once        {counted:.4}\n",
            learned.steps, learned.val_loss
        ))
    })?;
    page.claim(
        "training ends close to what counting pairs gives at once",
        "the training: `lesson 2`; count_bigrams in src/course/day02.rs",
        || {
            let (learned, counted) = (workspace.results(BIGRAM.folder)?.val_loss, loss_of(&counts)?);
            if !workspace.is_fully_trained(&BIGRAM)? {
                let reason = format!("it needs a model trained to its end; counting gives {counted:.4}");
                return Ok(CheckResult::Skipped(reason));
            }
            // The last steps still jump about by batches of a few hundred tokens.
            Ok(CheckResult::within_tolerance((learned - counted).abs() as f32, 0.02))
        },
    )
}

// ANCHOR: generate
/// The token `start` and, for each of `uniforms`, one that follows: looked up in `table` `[V, V]`, and sampled.
fn generate(table: &Array, start: u32, uniforms: &[f32]) -> anyhow::Result<Vec<u32>> {
    let mut ids = vec![start];
    for &uniform in uniforms {
        let last = Array::from_slice(&ids[ids.len() - 1..], &[1, 1]);
        let probabilities = ops::softmax_axis(bigram_logits(table, &last)?, -1, true)?; // [1, 1, V]
        let probabilities: Vec<f32> = probabilities.flatten(None, None)?.to_vec_exact()?;
        ids.push(sample(&probabilities, uniform));
    }
    Ok(ids)
}
// ANCHOR_END: generate

/// The ids of an array of any shape, row after row.
fn ids_of(array: &Array) -> anyhow::Result<Vec<u32>> {
    Ok(array.flatten(None, None)?.to_vec_exact()?)
}

/// The day's model with a given table of logits, `[V, V]`.
fn with_table(workspace: &Workspace, table: &Array) -> anyhow::Result<Checkpoint> {
    let tokenizer = workspace.tokenizer()?.clone();
    Ok(Checkpoint {
        folder: workspace.folder(BIGRAM.folder),
        model: workspace.config(&BIGRAM)?.model_config(tokenizer.vocab_size()),
        parameters: Parameters::from_entries(vec![("wte.weight".into(), table.clone())]),
        tokenizer,
        chat_template: None,
        base: None,
    })
}

/// The rows and columns of a table `[V, V]` for those of `characters` that occur in the text.
fn cut(workspace: &Workspace, table: &Array, characters: &str) -> anyhow::Result<(Vec<String>, Array)> {
    let tokenizer = workspace.tokenizer()?;
    let known = characters
        .chars()
        .filter_map(|character| tokenizer.encode(&character.to_string()).ok());
    let known: Vec<u32> = known.flatten().collect();
    let ids = Array::from_slice(&known, &[known.len() as i32]);
    let part = table.take_axis(&ids, 0)?.take_axis(&ids, 1)?;
    Ok((token_labels(tokenizer, &known)?, part))
}

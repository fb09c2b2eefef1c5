//! Day 7: GPT-2 assembled: the network, its head, its first weights, its size.

use mlx_rs::error::Result;
use mlx_rs::{Array, random};

use super::day03::{Weights, embed};
use super::day06::{block, layer_norm};

/// The size of a GPT-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Tokens of the vocabulary, V.
    pub vocab_size: i32,
    /// Tokens of the longest text.
    pub context: i32,
    /// Number of blocks.
    pub layers: i32,
    /// Heads of each block, H.
    pub heads: i32,
    /// Channels, C.
    pub embd: i32,
}

// ANCHOR: gpt
/// GPT-2: ids `[B, T]`, T at most the context, to logits `[B, T, V]` of the token after each.
///
/// # Exercise
/// Embed from position 0, run the blocks `h.0`, `h.1` and so on, apply the head: `embed`, `block`, `logits`.
pub fn gpt(ids: &Array, weights: &Weights, shape: &Shape) -> Result<Array> {
    let mut x = embed(ids, weights, 0)?; // [B, T, C]
    for layer in 0..shape.layers {
        x = block(&x, weights, &format!("h.{layer}"), shape.heads)?; // [B, T, C]
    }
    logits(&x, weights) // [B, T, V]
}
// ANCHOR_END: gpt

// ANCHOR: head
/// The tied head: x `[…, C]` to logits `[…, V]`, the dot products of the norm `ln_f` of x with the rows of `wte.weight`
/// `[V, C]`.
///
/// # Exercise
/// One last norm, then a product with the table on its side: `layer_norm`, `transpose`, `matmul`.
pub fn logits(x: &Array, weights: &Weights) -> Result<Array> {
    let normed = layer_norm(x, weights, "ln_f")?; // […, C]
    normed.matmul(weights["wte.weight"].transpose()?)
}
// ANCHOR_END: head

/// Names and shapes of a GPT-2's arrays. A linear layer's weight is `[in, out]`.
pub fn array_shapes(shape: &Shape) -> Vec<(String, Vec<i32>)> {
    let c = shape.embd;
    let mut arrays = vec![
        ("wte.weight".to_owned(), vec![shape.vocab_size, c]),
        ("wpe.weight".to_owned(), vec![shape.context, c]),
    ];
    let norm = |name: String| [(format!("{name}.weight"), vec![c]), (format!("{name}.bias"), vec![c])];
    for layer in 0..shape.layers {
        let name = format!("h.{layer}");
        arrays.extend(["ln_1", "ln_2"].into_iter().flat_map(|ln| norm(format!("{name}.{ln}"))));
        let linears = [
            ("attn.c_attn", c, 3 * c),
            ("attn.c_proj", c, c),
            ("mlp.c_fc", c, 4 * c),
            ("mlp.c_proj", 4 * c, c),
        ];
        for (linear, from, to) in linears {
            arrays.push((format!("{name}.{linear}.weight"), vec![from, to]));
            arrays.push((format!("{name}.{linear}.bias"), vec![to]));
        }
    }
    arrays.extend(norm("ln_f".to_owned()));
    arrays
}

// ANCHOR: initialize
/// Weights before training, drawn with a random key: biases 0, gains of norms 1, matrices and tables normal with standard
/// deviation 0.02, but 0.02 / √(2 · layers) where the output is added to the stream, in `attn.c_proj` and `mlp.c_proj`.
///
/// # Exercise
/// Go through `array_shapes(shape)`; names and numbers of axes tell the four cases apart: `Array::zeros::<f32>`,
/// `Array::ones::<f32>`, `random::normal::<f32>(shape, None, std, &key)`, with a new key from `RandomState::next_key` each time.
pub fn initialize(shape: &Shape, key: &Array) -> Result<Weights> {
    let residual = 0.02 / (2.0 * shape.layers as f32).sqrt();
    let mut keys = random::RandomState::from_key(key.clone());
    let mut weights = Weights::new();
    for (name, axes) in array_shapes(shape) {
        let array = if name.ends_with("bias") {
            Array::zeros::<f32>(&axes)?
        } else if axes.len() == 1 {
            Array::ones::<f32>(&axes)?
        } else {
            let std = if name.ends_with("c_proj.weight") {
                residual
            } else {
                0.02
            };
            random::normal::<f32>(&axes, None, std, &keys.next_key()?)?
        };
        weights.insert(name, array);
    }
    Ok(weights)
}
// ANCHOR_END: initialize

// ANCHOR: count
/// The number of parameters, counted on paper.
///
/// # Exercise
/// No arrays, only arithmetic with V, T, L and C. The head has none of its own.
pub fn parameter_count(shape: &Shape) -> i64 {
    let [v, t, l, c] = [shape.vocab_size, shape.context, shape.layers, shape.embd].map(i64::from);
    let norm = c + c; // a gain and a bias for each channel
    let attention = (c * 3 * c + 3 * c) + (c * c + c); // c_attn, c_proj
    let mlp = (c * 4 * c + 4 * c) + (4 * c * c + c); // c_fc, c_proj
    let block = norm + attention + norm + mlp;
    v * c + t * c + l * block + norm // wte, wpe, blocks, ln_f; the head is wte
}
// ANCHOR_END: count

// The day's program.

use std::cmp::Reverse;
use std::fmt::Write;

use mlx_rs::ops::indexing::TryIndexOp;

use super::day04::linear;
use super::day05::multi_head_attention;
use super::day06::{BLOCKS, mlp};
use crate::checkpoint::Checkpoint;
use crate::config::{ModelConfig, Preset};
use crate::data::batches::Batch;
use crate::lessons::arrays::{ids_and_targets, largest_difference, mean, table, token_labels};
use crate::lessons::claims::{CheckResult, lower_loss};
use crate::lessons::gradients::{gradients, gradients_by_name, largest_relative_difference};
use crate::lessons::page::Page;
use crate::lessons::pictures::{Axes, Series, curves, principal_components};
use crate::lessons::pytorch::{LOGITS_ROWS, PyTorch};
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::model::loss::negative_log_likelihood;
use crate::model::{Gpt, Parameters, init};

/// Day 7.
pub const LESSON: Lesson = Lesson {
    day: 7,
    title: "GPT-2 assembled",
    teaches: "weight tying, initialisation, every parameter counted, and the same numbers as PyTorch",
    chapter: include_str!("../../book/src/day-07.md"),
    models: &[NANO],
    needs: &[],
    program,
};

/// Day 7's model: the unchanged preset.
pub const NANO: Recipe = Recipe {
    folder: "day-07",
    what: "GPT-2 of the preset's size",
    change: |config| config,
    starts_from: None,
    band: (1.92, 1.98),
};

impl From<&ModelConfig> for Shape {
    fn from(model: &ModelConfig) -> Self {
        Self {
            vocab_size: model.vocab_size as i32,
            context: model.context as i32,
            layers: model.layers as i32,
            heads: model.heads as i32,
            embd: model.embd as i32,
        }
    }
}

/// Vocabulary of OpenAI's models.
const GPT2_VOCABULARY: usize = 50257;

/// These models, with the numbers of their parameters.
const PUBLISHED: [(Preset, i64); 4] = [
    (Preset::Gpt2, 124_439_808),
    (Preset::Gpt2Medium, 354_823_168),
    (Preset::Gpt2Large, 774_030_080),
    (Preset::Gpt2Xl, 1_557_611_200),
];

/// An untrained model of the day, and rows of the validation text.
pub(super) fn fresh(workspace: &Workspace, rows: usize) -> anyhow::Result<(ModelConfig, Parameters, Batch)> {
    let (model, parameters) = workspace.untrained(&NANO)?;
    let batch = workspace.validation_batch(rows, model.context)?;
    Ok((model, parameters, batch))
}

fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let (model, parameters) = workspace.untrained(&NANO)?;
    let (weights, shape) = (Weights::from(&parameters), Shape::from(&model));
    let batch = workspace.validation_batch(4, model.context)?;
    let [ids, targets] = ids_and_targets(&batch);
    page.figure("shapes.txt", || shapes(&ids, &targets, &weights, &shape))?;
    page.claim(
        "gpt computes what the library's forward pass computes",
        "gpt in src/course/day07.rs, Gpt::forward in src/model/gpt.rs",
        || {
            let library = Gpt::new(&model, &parameters)?.forward(&ids, None)?;
            let difference = largest_difference(&gpt(&ids, &weights, &shape)?, &library)?;
            // Logits around 0.2, sums of up to 512 products in float32, in different orders.
            Ok(CheckResult::within_tolerance(difference, 1e-5))
        },
    )?;

    // The table's gradients: two tables with the same numbers, one for the lookup and one for the head; and one for both.
    let wte = &weights["wte.weight"];
    let tables = Weights::from(["lookup", "head"].map(|name| (name.to_owned(), wte.clone())));
    let apart = gradients_by_name(&tables, |tables| {
        let mut weights = weights.clone();
        weights.insert("wte.weight".into(), tables["lookup"].clone());
        let stream = residual_stream(&ids, &weights, &shape)?;
        weights.insert("wte.weight".into(), tables["head"].clone());
        cross_entropy(&logits(&stream[model.layers], &weights)?, &targets)
    })?;
    let tied = gradients_by_name(&weights, |weights| {
        cross_entropy(&gpt(&ids, weights, &shape)?, &targets)
    })?;
    let (lookup, head, both) = (&apart["lookup"], &apart["head"], &tied["wte.weight"]); // [V, C]
    page.figure("tied.txt", || {
        let norms =
            |gradient: &Array| anyhow::Ok(gradient.square()?.sum_axis(-1, false)?.sqrt()?.to_vec_exact::<f32>()?);
        let norms = [norms(lookup)?, norms(head)?, norms(both)?]; // 3 × V
        let times = |id: u32| batch.inputs.iter().filter(|&&other| other == id).count();
        let mut order: Vec<u32> = (0..shape.vocab_size as u32).collect();
        order.sort_by_key(|&id| Reverse(times(id)));
        let shown: Vec<u32> = order
            .iter()
            .take(3)
            .chain(order.iter().rev().take(2))
            .copied()
            .collect();
        let mut text = String::from("token   in batch    by lookup      by head     together\n");
        for (label, &id) in token_labels(workspace.tokenizer()?, &shown)?.iter().zip(&shown) {
            let [lookup, head, both] = [0, 1, 2].map(|use_: usize| norms[use_][id as usize]);
            writeln!(
                text,
                "{label:<6} {:>9} {lookup:>12.6} {head:>12.6} {both:>12.6}",
                times(id)
            )?;
        }
        Ok(text)
    })?;
    page.claim(
        "the tied table's gradient is the sum of those of its two uses",
        "logits in src/course/day07.rs",
        || {
            let difference = largest_relative_difference(&[lookup.add(head)?], &[both.clone()])?;
            // Float32 sums in another order.
            Ok(CheckResult::within_tolerance(difference, 1e-5))
        },
    )?;

    let key = random::key(workspace.seed())?;
    let drawn = initialize(&shape, &key)?;
    page.claim(
        "initialize draws the library's initial weights, bit for bit",
        "initialize and array_shapes in src/course/day07.rs, layout in src/model/init.rs",
        || same_weights(&drawn, &weights),
    )?;
    let mut confidence = Vec::new(); // for each size of the weights: the standard deviation of the logits, and the loss
    for factor in [1.0, 5.0, 50.0] {
        let mut weights = drawn.clone();
        multiply(&mut weights, factor, |_, array| array.ndim() > 1)?;
        let logits = gpt(&ids, &weights, &shape)?;
        confidence.push((
            factor,
            deviation(&logits)?,
            cross_entropy(&logits, &targets)?.try_item_exact::<f32>()?,
        ));
    }
    let uniform = (shape.vocab_size as f32).ln();
    page.figure("first-loss.txt", || {
        let mut text = format!(
            "ln({}) = {uniform:.3}\n\ndeviation of weights   of logits     loss\n",
            shape.vocab_size
        );
        for (factor, spread, loss) in &confidence {
            writeln!(text, "{:<20.2} {spread:>11.2} {loss:>8.3}", 0.02 * factor)?;
        }
        Ok(text)
    })?;
    page.claim(
        "an untrained model predicts nearly uniformly: its loss is ln(vocabulary) or little more",
        "initialize in src/course/day07.rs",
        || {
            let loss = confidence[0].2;
            // Logits of a standard deviation s cost about s²/2, and s is about 0.2.
            let measured = format!("{loss:.3}, ln(vocabulary) is {uniform:.3}");
            Ok(CheckResult::passes_if((loss - uniform).abs() < 0.1, measured))
        },
    )?;

    let mut streams = Vec::new(); // of each depth: scaled and unscaled, the deviation after the embeddings and each block
    for layers in [12, 24, 48] {
        let deep = Shape { layers, ..shape };
        let mut weights = initialize(&deep, &key)?;
        let scaled = deviations(&ids, &weights, &deep)?;
        multiply(&mut weights, (2.0 * layers as f32).sqrt(), |name, _| {
            name.ends_with("c_proj.weight")
        })?;
        streams.push([scaled, deviations(&ids, &weights, &deep)?]);
    }
    let at_end = |stream: &[f32]| stream[stream.len() - 1];
    page.figure("stream.txt", || {
        let mut text = String::from("layers   at first   at the end: scaled   unscaled\n");
        for [scaled, unscaled] in &streams {
            let (layers, first) = (scaled.len() - 1, scaled[0]);
            let [scaled, unscaled] = [scaled, unscaled].map(|stream| at_end(stream));
            writeln!(text, "{layers:<8} {first:>8.3} {scaled:>20.3} {unscaled:>10.3}")?;
        }
        Ok(text)
    })?;
    page.figure("stream.svg", || {
        let axes = Axes {
            title: "The residual stream of 48 untrained layers",
            x: "blocks",
            y: "standard deviation",
            ..Axes::default()
        };
        let [scaled, unscaled] = &streams[2];
        let line = |name, stream: &[f32]| Series::numbered(name, 0, stream.iter().copied().map(f64::from));
        curves(
            &axes,
            &[line("unscaled", unscaled), line("scaled by 1/√(2·layers)", scaled)],
        )
    })?;
    page.claim(
        "scaled by depth, the residual stream ends as large with 48 layers as with 12; unscaled it ends twice as large",
        "initialize in src/course/day07.rs",
        || {
            let [scaled, unscaled] = [0, 1].map(|way: usize| at_end(&streams[2][way]) / at_end(&streams[0][way]));
            let measured = format!("{scaled:.2} times as large, and {unscaled:.2} times");
            // A tolerance of a tenth, for random numbers. Unscaled, four times the branches give √4 times the deviation.
            Ok(CheckResult::passes_if(
                (scaled - 1.0).abs() < 0.1 && (unscaled - 2.0).abs() < 0.2,
                measured,
            ))
        },
    )?;

    let published = PUBLISHED.map(|(preset, count)| (preset.model(GPT2_VOCABULARY), count.to_string()));
    page.figure("count.txt", || {
        let mut text = String::from("layers  width context vocabulary       by hand       in code     published\n");
        for (model, published) in published.iter().chain([&(model.clone(), String::new())]) {
            let Shape {
                vocab_size,
                context,
                layers,
                embd,
                ..
            } = Shape::from(model);
            let (by_hand, in_code) = (parameter_count(&Shape::from(model)), init::parameter_count(model));
            writeln!(
                text,
                "{layers:>6} {embd:>6} {context:>7} {vocab_size:>10} {by_hand:>13} {in_code:>13} {published:>13}"
            )?;
        }
        Ok(text)
    })?;
    page.claim(
        "counted by hand, in the code and in OpenAI's models, all four published sizes have the same number of parameters",
        "parameter_count in src/course/day07.rs, layout in src/model/init.rs",
        || {
            let counts = published.map(|(model, published)| {
                [parameter_count(&Shape::from(&model)).to_string(), init::parameter_count(&model).to_string(), published]
            });
            let same = counts.iter().all(|[by_hand, in_code, published]| by_hand == published && in_code == published);
            Ok(CheckResult::passes_if(same, format!("{counts:?}")))
        },
    )?;

    let pytorch = PyTorch::read()?;
    let (weights, small) = (Weights::from(&pytorch.parameters), Shape::from(&pytorch.model));
    let [ids, targets] = ids_and_targets(&pytorch.batch); // [12, 24]
    let some = ids.try_index(..LOGITS_ROWS as i32)?;
    let all_logits = [
        ("day 7  ", gpt(&some, &weights, &small)?),
        (
            "library",
            Gpt::new(&pytorch.model, &pytorch.parameters)?.forward(&some, None)?,
        ),
        ("PyTorch", pytorch.answer("logits")?),
    ];
    let [ours, library, theirs] = [0, 1, 2].map(|of: usize| &all_logits[of].1);
    let logits_off = largest_difference(ours, theirs)?.max(largest_difference(library, theirs)?);
    let ours = gradients_by_name(&weights, |weights| {
        cross_entropy(&gpt(&ids, weights, &small)?, &targets)
    })?;
    let ours: Vec<Array> = ours.into_values().collect();
    let library = gradients(&pytorch.model, &pytorch.parameters, &pytorch.batch, 1)?.gradients;
    let theirs = weights
        .keys()
        .map(|name| pytorch.answer(&format!("grad.{name}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let gradients_off =
        largest_relative_difference(&ours, &theirs)?.max(largest_relative_difference(&library, &theirs)?);
    page.figure("pytorch.txt", || {
        let mut text = format!(
            "{}, vocabulary {}\nlogits {:?}; after the first row's last token, of the first six ids:\n\n",
            pytorch.model.shape(),
            small.vocab_size,
            all_logits[0].1.shape()
        );
        for (name, logits) in &all_logits {
            text += &table(&[(*name).into()], &logits.try_index((0..1, -1, ..6))?, 6)?;
        }
        Ok(format!(
            "{text}\nlargest difference of all {} logits {logits_off:.1e}\n\
             and of all {} gradients, as a fraction of the largest in each array, {gradients_off:.1e}\n",
            all_logits[0].1.size(),
            pytorch.parameters.count()
        ))
    })?;
    page.claim(
        "the logits of gpt and of the library are PyTorch's",
        "gpt in src/course/day07.rs, Gpt::forward in src/model/gpt.rs",
        // PyTorch's own float32 is off by 7e-7 from float64; another order of sums may be off by ten times that.
        || Ok(CheckResult::within_tolerance(logits_off, 1e-5)),
    )?;
    page.claim(
        "every gradient of both is PyTorch's",
        "gelu in src/course/day06.rs, gelu in src/model/mlp.rs, the loss in src/model/loss.rs",
        // As for the logits, relative to each array's largest magnitude.
        || Ok(CheckResult::within_tolerance(gradients_off, 1e-5)),
    )?;

    page.figure("training.txt", || {
        Ok(workspace.train_with_initial_checkpoint(&NANO)?.summary())
    })?;
    let untrained = || Checkpoint::load(&workspace.folder(NANO.folder).join("step-000000"));
    page.claim(
        "step-000000 is the untrained model",
        "move lessons/day-07 away and run the lesson again",
        // Written and read as float32.
        || same_weights(&drawn, &Weights::from(&untrained()?.parameters)),
    )?;
    page.claim(
        "the whole model has a lower loss than day 6's blocks",
        "the training of both: `lesson 6`, `lesson 7`",
        || lower_loss(workspace, &NANO, &BLOCKS),
    )?;
    page.figure("before-and-after.txt", || {
        let before = workspace.sample(&untrained()?, "\n", 150)?;
        let after = workspace.sample(&workspace.load(NANO.folder)?, "\n", 150)?;
        let (before, after) = (before.trim_matches('\n'), after.trim_matches('\n'));
        Ok(format!(
            "before the first step:\n\n{before}\n\nafter the last:\n\n{after}\n"
        ))
    })?;
    page.figure("vectors.svg", || {
        let (labels, vectors) = workspace.embedding(NANO.folder)?;
        principal_components("What day 7 learned of each character", labels, &vectors)
    })
}

/// The mean loss in nats: logits `[B, T, V]` and targets `[B, T]`.
fn cross_entropy(logits: &Array, targets: &Array) -> Result<Array> {
    negative_log_likelihood(logits, targets)?.mean(None)
}

/// The residual stream after the embeddings and after each block, each `[B, T, C]`.
fn residual_stream(ids: &Array, weights: &Weights, shape: &Shape) -> Result<Vec<Array>> {
    let mut stream = vec![embed(ids, weights, 0)?];
    for layer in 0..shape.layers as usize {
        stream.push(block(&stream[layer], weights, &format!("h.{layer}"), shape.heads)?);
    }
    Ok(stream)
}

/// The standard deviation of each of them.
fn deviations(ids: &Array, weights: &Weights, shape: &Shape) -> anyhow::Result<Vec<f32>> {
    residual_stream(ids, weights, shape)?.iter().map(deviation).collect()
}

fn deviation(x: &Array) -> anyhow::Result<f32> {
    Ok(x.var(None, None)?.sqrt()?.try_item_exact()?)
}

/// Multiplies the arrays that `choose` chooses.
fn multiply(weights: &mut Weights, factor: f32, choose: impl Fn(&str, &Array) -> bool) -> Result<()> {
    for (_, array) in weights.iter_mut().filter(|(name, array)| choose(name, array)) {
        *array = array.multiply(Array::from_f32(factor))?;
    }
    Ok(())
}

/// Whether two models have the same weights.
fn same_weights(a: &Weights, b: &Weights) -> anyhow::Result<CheckResult> {
    let mut largest = 0.0_f32;
    for (a, b) in a.values().zip(b.values()) {
        largest = largest.max(largest_difference(a, b)?);
    }
    let same = a.keys().eq(b.keys()) && largest == 0.0;
    Ok(CheckResult::passes_if(
        same,
        format!("{} arrays, largest difference {largest}", b.len()),
    ))
}

/// The shape of everything on the way from ids to the loss.
fn shapes(ids: &Array, targets: &Array, weights: &Weights, shape: &Shape) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut line = |name: &str, array: &Array, what: &str| {
        writeln!(text, "{name:<16} {:<14} {what}", format!("{:?}", array.shape()))
    };
    line("ids", ids, "B rows of T tokens")?;
    let x = embed(ids, weights, 0)?;
    line("embeddings", &x, "token and position: the stream begins, C wide")?;
    let normed = layer_norm(&x, weights, "h.0.ln_1")?;
    line("  ln_1", &normed, "each token's vector made of mean 0, deviation 1")?;
    let qkv = linear(&normed, weights, "h.0.attn.c_attn")?;
    line("  attn.c_attn", &qkv, "queries, keys and values of all heads: 3C")?;
    let gathered = multi_head_attention(&normed, weights, "h.0.attn", shape.heads)?;
    line("  attn", &gathered, "what was gathered, added to the stream")?;
    let normed = layer_norm(&x.add(&gathered)?, weights, "h.0.ln_2")?;
    let wide = linear(&normed, weights, "h.0.mlp.c_fc")?;
    line("  mlp.c_fc", &wide, "four times as wide: 4C")?;
    let computed = mlp(&normed, weights, "h.0.mlp")?;
    line("  mlp", &computed, "back to C, added to the stream")?;
    let stream = residual_stream(ids, weights, shape)?;
    for (layer, x) in stream[1..].iter().enumerate() {
        line(&format!("h.{layer}"), x, "after that block")?;
    }
    let normed = layer_norm(&stream[stream.len() - 1], weights, "ln_f")?;
    line("ln_f", &normed, "one last norm")?;
    let logits = normed.matmul(weights["wte.weight"].transpose()?)?;
    line("logits", &logits, "a number for each token of the vocabulary V")?;
    let losses = negative_log_likelihood(&logits, targets)?;
    line("losses", &losses, "how surprising each next token was")?;
    writeln!(text, "loss             {:.4}         their mean", mean(&losses)?)?;
    Ok(text)
}

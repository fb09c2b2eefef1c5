//! Day 7: the figures and claims of its chapter, in its order.

use std::cmp::Reverse;
use std::fmt::Write;

use mlx_rs::error::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops, random};

use super::day06::BLOCKS;
use super::encoder_decoder;
use crate::checkpoint::Checkpoint;
use crate::config::{ModelConfig, Preset};
use crate::course::day02::cross_entropy;
use crate::course::day03::{Weights, embed};
use crate::course::day04::linear;
use crate::course::day05::multi_head_attention;
use crate::course::day06::{block, layer_norm, mlp};
use crate::course::day07::{Shape, gpt, initialize, logits, parameter_count};
use crate::lessons::arrays::{
    ids_and_targets, largest_difference, largest_difference_by_name, mean, table, token_labels,
};
use crate::lessons::claims::{CheckResult, lower_loss};
use crate::lessons::gradients::{gradients_by_name, largest_relative_difference};
use crate::lessons::page::Page;
use crate::lessons::pictures::{Axes, Series, curves, principal_components};
use crate::lessons::pytorch::{LOGITS_ROWS, PyTorch};
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::model::loss::negative_log_likelihood;
use crate::model::{Gpt, init};

/// Day 7.
pub const LESSON: Lesson = Lesson {
    day: 7,
    title: "GPT-2 assembled",
    teaches: "weight tying, initialisation, every parameter counted, and the same numbers as PyTorch",
    chapter: include_str!("../../../book/src/day-07.md"),
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

fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let (model, parameters) = workspace.untrained(&NANO)?;
    let (weights, shape) = (Weights::from(&parameters), Shape::from(&model));
    let batch = workspace.validation_batch(4, model.context)?;
    let [ids, targets] = ids_and_targets(&batch);
    page.figure("shapes.txt", || shapes(&ids, &targets, &weights, &shape))?;

    // ANCHOR: tied
    // Gradients of two tables with the same numbers, one for the lookup and one for the head; and of one for both.
    let wte = &weights["wte.weight"];
    let two = Weights::from(["lookup", "head"].map(|name| (name.to_owned(), wte.clone())));
    let two = gradients_by_name(&two, |tables| {
        let mut weights = weights.clone();
        weights.insert("wte.weight".into(), tables["lookup"].clone());
        let stream = residual_stream(&ids, &weights, &shape)?;
        weights.insert("wte.weight".into(), tables["head"].clone());
        cross_entropy(&logits(&stream[model.layers], &weights)?, &targets)
    })?;
    let loss = |weights: &Weights| cross_entropy(&gpt(&ids, weights, &shape)?, &targets);
    let one = gradients_by_name(&weights, loss)?;
    // ANCHOR_END: tied
    let gradients = [&two["lookup"], &two["head"], &one["wte.weight"]]; // 3 × [V, C]
    page.figure("tied.txt", || {
        let norms = ops::stack(&gradients, 1)?.square()?.sum_axis(-1, false)?.sqrt()?; // [V, 3]
        let times = |id: &u32| batch.inputs.iter().filter(|&other| other == id).count();
        let mut ids: Vec<u32> = (0..shape.vocab_size as u32).collect();
        ids.sort_by_key(|id| Reverse(times(id)));
        let shown: Vec<u32> = ids.iter().take(3).chain(ids.iter().rev().take(2)).copied().collect();
        let labels = token_labels(workspace.tokenizer()?, &shown)?.into_iter().zip(&shown);
        let labels = labels.map(|(label, id)| format!("{label:<6} {:>9}", times(id)));
        let norms = norms.take_axis(Array::from_slice(&shown, &[shown.len() as i32]), 0)?;
        let norms = table(&labels.collect::<Vec<_>>(), &norms, 6)?;
        Ok(format!("token   in batch   by lookup    by head   together\n{norms}"))
    })?;
    page.claim(
        "the tied table's gradient is the sum of those of its two uses",
        "logits in src/course/day07.rs",
        || {
            let sum = gradients[0].add(gradients[1])?;
            // Float32 sums in another order.
            let difference = largest_relative_difference(&[sum], &[gradients[2].clone()])?;
            Ok(CheckResult::within_tolerance(difference, 1e-5))
        },
    )?;

    let key = random::key(workspace.seed())?;
    let drawn = initialize(&shape, &key)?;
    page.claim(
        "initialize draws the library's initial weights, bit for bit",
        "initialize and array_shapes in src/course/day07.rs, layout in src/model/init.rs",
        || {
            Ok(CheckResult::within_tolerance(
                largest_difference_by_name(&drawn, &weights)?,
                0.0,
            ))
        },
    )?;
    // The standard deviation of the logits, and the loss, with weights that many times as large.
    let deviation = |x: &Array| anyhow::Ok(x.var(None, None)?.sqrt()?.try_item_exact::<f32>()?);
    let confidence = |factor| {
        let mut weights = weights.clone();
        for array in weights.values_mut().filter(|array| array.ndim() > 1) {
            *array = array.multiply(Array::from_f32(factor))?;
        }
        let logits = gpt(&ids, &weights, &shape)?;
        let loss: f32 = cross_entropy(&logits, &targets)?.try_item_exact()?;
        anyhow::Ok([deviation(&logits)?, loss])
    };
    let losses = [confidence(1.0)?, confidence(5.0)?, confidence(50.0)?];
    let uniform = (shape.vocab_size as f32).ln();
    page.figure("first-loss.txt", || {
        let labels = ["0.02", "0.1 ", "1   "].map(|std| format!("{std:<22}"));
        let losses = table(&labels, &Array::from_slice(&losses.concat(), &[3, 2]), 3)?;
        let header = format!("ln({}) = {uniform:.3}", shape.vocab_size);
        Ok(format!("{header}\n\ndeviation of weights  of logits    loss\n{losses}"))
    })?;
    page.claim(
        "an untrained model predicts nearly uniformly: its loss is ln(vocabulary) or little more",
        "initialize in src/course/day07.rs",
        || {
            let [_, loss] = losses[0];
            // Logits of a standard deviation s cost about s²/2, and s is about 0.2; as much again for so few tokens.
            let measured = format!("{loss:.3}, ln(vocabulary) is {uniform:.3}");
            Ok(CheckResult::passes_if((loss - uniform).abs() < 0.2, measured))
        },
    )?;

    // ANCHOR: deviations
    // The standard deviation of the stream after the embeddings and after each block, with both `c_proj` `factor` times as large.
    let deviations = |layers: i32, factor: f32| {
        let deep = Shape { layers, ..shape };
        let mut weights = initialize(&deep, &key)?;
        for (_, array) in weights.iter_mut().filter(|(name, _)| name.ends_with("c_proj.weight")) {
            *array = array.multiply(Array::from_f32(factor))?;
        }
        let stream = residual_stream(&ids, &weights, &deep)?;
        stream.iter().map(deviation).collect::<anyhow::Result<Vec<f32>>>()
    };
    // ANCHOR_END: deviations
    let mut streams = Vec::new();
    for layers in [12, 24, 48] {
        let root = (2.0 * layers as f32).sqrt();
        streams.push([deviations(layers, 1.0)?, deviations(layers, root)?]);
    }
    let last = |stream: &[f32]| stream[stream.len() - 1];
    page.figure("stream.txt", || {
        let mut text = String::from("layers   at first   at the end: scaled   unscaled\n");
        for [scaled, unscaled] in &streams {
            let (layers, first, scaled, unscaled) = (scaled.len() - 1, scaled[0], last(scaled), last(unscaled));
            text += &format!("{layers:<8} {first:>8.3} {scaled:>20.3} {unscaled:>10.3}\n");
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
        let line = |name, way: usize| Series::numbered(name, 0, streams[2][way].iter().copied().map(f64::from));
        curves(&axes, &[line("unscaled", 1), line("scaled by 1/√(2·layers)", 0)])
    })?;
    page.claim(
        "scaled by depth, the residual stream ends as large with 48 layers as with 12; unscaled it ends twice as large",
        "initialize in src/course/day07.rs",
        || {
            let [scaled, unscaled] = [0, 1].map(|way: usize| last(&streams[2][way]) / last(&streams[0][way]));
            let measured = format!("{scaled:.2} times as large, and {unscaled:.2} times");
            // Four times the branches give √4 times the deviation if they are independent; they nearly are.
            let right = (scaled - 1.0).abs() < 0.1 && (unscaled - 2.0).abs() < 0.4;
            Ok(CheckResult::passes_if(right, measured))
        },
    )?;

    let mut sizes = vec![
        (Preset::Gpt2.model_config(50257), "124439808"),
        (Preset::Gpt2Medium.model_config(50257), "354823168"),
        (Preset::Gpt2Large.model_config(50257), "774030080"),
        (Preset::Gpt2Xl.model_config(50257), "1557611200"),
    ];
    sizes.push((model, ""));
    page.figure("count.txt", || {
        let mut text = String::from("layers  width context vocabulary       by hand       in code     published\n");
        for (model, published) in &sizes {
            let [l, c, t, v] = [model.layers, model.embd, model.context, model.vocab_size];
            let (by_hand, in_code) = (parameter_count(&Shape::from(model)), init::parameter_count(model));
            text += &format!("{l:>6} {c:>6} {t:>7} {v:>10} {by_hand:>13} {in_code:>13} {published:>13}\n");
        }
        Ok(text)
    })?;
    page.claim(
        "counted by hand, in the code and in OpenAI's models, all four published sizes have the same number of parameters",
        "parameter_count in src/course/day07.rs, layout in src/model/init.rs",
        || {
            let by_hand = |model: &ModelConfig| parameter_count(&Shape::from(model)).to_string();
            let in_code = |model: &ModelConfig| init::parameter_count(model).to_string();
            let same = |(model, published): &(ModelConfig, &str)| [by_hand(model), in_code(model)] == [*published; 2];
            let measured = sizes[..4].iter().map(|(model, _)| by_hand(model)).collect::<Vec<_>>().join(", ");
            Ok(CheckResult::passes_if(sizes[..4].iter().all(same), measured))
        },
    )?;

    let pytorch = PyTorch::read()?;
    let (fixed, small) = (Weights::from(&pytorch.parameters), Shape::from(&pytorch.model));
    let [ids, targets] = ids_and_targets(&pytorch.batch); // [12, 24]
    let some = ids.try_index(..LOGITS_ROWS as i32)?;
    let library = Gpt::new(&pytorch.model, &pytorch.parameters)?.forward(&some, None)?;
    let [ours, library, theirs] = [gpt(&some, &fixed, &small)?, library, pytorch.answer("logits")?];
    let logits_off = largest_difference(&ops::stack(&[&ours, &library], 0)?, &theirs)?;
    let loss = |weights: &Weights| cross_entropy(&gpt(&ids, weights, &small)?, &targets);
    let gradients: Vec<Array> = gradients_by_name(&fixed, loss)?.into_values().collect();
    let gradients_off = largest_relative_difference(&gradients, &pytorch.gradients()?)?;
    page.figure("pytorch.txt", || {
        let first_six = ops::stack(&[&ours, &library, &theirs], 0)?.try_index((.., 0, -1, ..6))?; // [3, 6]
        Ok(format!(
            "{}, vocabulary {}\nlogits {:?}; after the first row's last token, of the first six ids:\n\n{}\n\
             largest difference of all {} logits {logits_off:.1e}\n\
             and of all {} gradients of day 7, as a fraction of the largest in each array, {gradients_off:.1e}\n",
            pytorch.model.summary(),
            small.vocab_size,
            theirs.shape(),
            table(&["day 7", "library", "PyTorch"].map(String::from), &first_six, 6)?,
            theirs.size(),
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
        "every gradient of gpt is PyTorch's",
        "gelu and layer_norm in src/course/day06.rs, cross_entropy in src/course/day02.rs",
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
        || {
            let saved = Weights::from(&untrained()?.parameters);
            // Written and read as float32.
            let difference = largest_difference_by_name(&saved, &weights)?;
            Ok(CheckResult::within_tolerance(difference, 0.0))
        },
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
    })?;
    encoder_decoder::program(page, workspace)
}

/// The residual stream after the embeddings and after each block, each `[B, T, C]`.
fn residual_stream(ids: &Array, weights: &Weights, shape: &Shape) -> Result<Vec<Array>> {
    let mut stream = vec![embed(ids, weights, 0)?];
    for layer in 0..shape.layers as usize {
        stream.push(block(&stream[layer], weights, &format!("h.{layer}"), shape.heads)?);
    }
    Ok(stream)
}

/// The shape of everything on the way from ids to the loss.
fn shapes(ids: &Array, targets: &Array, weights: &Weights, shape: &Shape) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut line = |name: &str, array: &Array, what: &str| {
        writeln!(text, "{name:<16} {:<14} {what}", format!("{:?}", array.shape()))
    };
    line("ids", ids, "B rows of T tokens")?;
    let stream = residual_stream(ids, weights, shape)?;
    line("embeddings", &stream[0], "the stream begins, C wide")?;
    let normed = layer_norm(&stream[0], weights, "h.0.ln_1")?;
    line("  ln_1", &normed, "each token's vector made of mean 0, deviation 1")?;
    let qkv = linear(&normed, weights, "h.0.attn.c_attn")?;
    line("  attn.c_attn", &qkv, "queries, keys and values of all heads: 3C")?;
    let gathered = multi_head_attention(&normed, weights, "h.0.attn", shape.heads)?;
    line("  attn", &gathered, "what was gathered, added to the stream")?;
    let normed = layer_norm(&stream[0].add(&gathered)?, weights, "h.0.ln_2")?;
    let wide = linear(&normed, weights, "h.0.mlp.c_fc")?;
    line("  mlp.c_fc", &wide, "four times as wide: 4C")?;
    let computed = mlp(&normed, weights, "h.0.mlp")?;
    line("  mlp", &computed, "back to C, added to the stream")?;
    for (layer, x) in stream[1..].iter().enumerate() {
        line(&format!("h.{layer}"), x, "after that block")?;
    }
    let last = &stream[stream.len() - 1];
    line("ln_f", &layer_norm(last, weights, "ln_f")?, "one last norm")?;
    let logits = logits(last, weights)?;
    line("logits", &logits, "a number for each token of the vocabulary V")?;
    let losses = negative_log_likelihood(&logits, targets)?;
    line("losses", &losses, "how surprising each next token was")?;
    writeln!(text, "loss             {:.4}         their mean", mean(&losses)?)?;
    Ok(text)
}

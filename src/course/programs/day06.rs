//! Day 6: the figures and claims of its chapter, in its order.

use mlx_rs::error::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops, random};

use super::day05::HEADS;
use crate::config::TrainConfig;
use crate::course::day02::cross_entropy;
use crate::course::day03::{Weights, embed};
use crate::course::day05::multi_head_attention;
use crate::course::day06::{block, dropout, gelu, layer_norm, mlp, normalize};
use crate::lessons::arrays::{ids_and_targets, largest_difference, mean, numbered, table};
use crate::lessons::claims::{CheckResult, lower_loss};
use crate::lessons::gradients::{gradients_by_name, norm};
use crate::lessons::page::Page;
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::model::block::Block;
use crate::model::dropout::Dropout;
use crate::model::mlp::gelu as library_gelu;
use crate::model::norm::LayerNorm;
use crate::model::parameters::Parameters;
use crate::terminal::console::say;

/// Day 6.
pub const LESSON: Lesson = Lesson {
    day: 6,
    title: "The block",
    teaches: "the MLP, and what makes deep stacks trainable: residual connections, norms, dropout",
    chapter: include_str!("../../../book/src/day-06.md"),
    models: &[ONE_BLOCK, BLOCKS],
    needs: &[],
    program,
};

/// Day 6's first model.
pub const ONE_BLOCK: Recipe = Recipe {
    folder: "day-06-one-block",
    what: "one narrow block",
    change: |config| narrow(config, 1),
    starts_from: None,
    band: (2.08, 2.12),
};

/// Day 6's second model. Depth pays late: after the same number of steps, three blocks are hardly better than one.
pub const BLOCKS: Recipe = Recipe {
    folder: "day-06",
    what: "three narrow blocks",
    change: |config| TrainConfig {
        steps: 2 * config.steps,
        ..narrow(config, 3)
    },
    starts_from: None,
    band: (1.95, 1.99),
};

/// A quarter as wide as the preset, which makes many steps cheap; so small a model tolerates four times the preset's rate.
fn narrow(config: TrainConfig, layers: usize) -> TrainConfig {
    TrainConfig {
        layers,
        embd: config.embd / 4,
        lr: 4.0 * config.lr,
        min_lr: 4.0 * config.min_lr,
        ..config
    }
}

/// Number of blocks of the deep stack: enough to see the trend.
const DEPTH: usize = 16;

/// Dropout probability in the chapter.
const RATE: f32 = 0.25;

// ANCHOR: variants
/// A block with the sums or not (`residual`) and with the norms or not (`norm`): x `[B, T, C]` to `[B, T, C]`.
fn variant(x: &Array, weights: &Weights, name: &str, heads: i32, [residual, norm]: [bool; 2]) -> Result<Array> {
    let normed = |x: &Array, layer: &str| match norm {
        true => layer_norm(x, weights, &format!("{name}.{layer}")),
        false => Ok(x.clone()),
    };
    let joined = |x: &Array, f: Array| if residual { x.add(f) } else { Ok(f) };
    let attended = multi_head_attention(&normed(x, "ln_1")?, weights, &format!("{name}.attn"), heads)?;
    let x = joined(x, attended)?;
    joined(&x, mlp(&normed(&x, "ln_2")?, weights, &format!("{name}.mlp"))?)
}
// ANCHOR_END: variants

/// Formulas of the variants, with `residual` and `norm` of each.
const VARIANTS: [(&str, [bool; 2]); 4] = [
    ("x + f(norm(x))", [true, true]),
    ("x + f(x)", [true, false]),
    ("f(norm(x))", [false, true]),
    ("f(x)", [false, false]),
];

fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    page.figure("gelu.txt", || {
        let x = Array::from_slice(&[-3.0f32, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0], &[9]);
        let relu = ops::maximum(&x, Array::from_f32(0.0))?;
        let lines = ops::stack(&[&x, &relu, &gelu(&x)?], 0)?; // [3, 9]
        table(&["x", "ReLU", "GELU"].map(String::from), &lines, 2)
    })?;
    page.claim(
        "GELU's 0.5 x (1 + tanh(u)) is the library's x · sigmoid(2u)",
        "gelu in src/course/day06.rs, gelu in src/model/mlp.rs",
        || {
            let x = ops::arange::<_, f32>(-6.0, 6.0, 0.05)?;
            let difference = largest_difference(&gelu(&x)?, &library_gelu(&x)?)?;
            // Values up to 6 in float32, whose last digit is 5e-7.
            Ok(CheckResult::within_tolerance(difference, 1e-6))
        },
    )?;

    let (model, parameters) = workspace.untrained(&Recipe {
        change: |config| narrow(config, DEPTH),
        ..BLOCKS
    })?;
    let parameters = parameters.map(unit_variance)?;
    let (weights, heads) = (Weights::from(&parameters), model.heads as i32);
    page.figure("parts.txt", || {
        let arrays: Vec<_> = weights.iter().filter(|(name, _)| name.starts_with("h.0.")).collect();
        let total: usize = arrays.iter().map(|(_, array)| array.size()).sum();
        let mut text = String::new();
        for (name, array) in arrays {
            let (name, shape, size) = (&name[4..], format!("{:?}", array.shape()), array.size());
            let percent = 100.0 * size as f64 / total as f64;
            text += &format!("{name:<20} {shape:<12} {size:>7}  {percent:>4.1}%\n");
        }
        Ok(format!("{text}{:<33} {total:>7}\n", "a block"))
    })?;
    let key = random::key(workspace.seed())?;
    let x = random::normal::<f32>(&[2, 8, model.embd as i32], None, None, &key)?; // two texts of eight tokens
    page.claim(
        "the MLP works on each token alone",
        "mlp in src/course/day06.rs",
        || {
            let [last, last_alone] = [mlp(&x, &weights, "h.0.mlp")?, x.clone()].map(|x| x.try_index((.., 7..)));
            let difference = largest_difference(&last?, &mlp(&last_alone?, &weights, "h.0.mlp")?)?;
            // As for the block below.
            Ok(CheckResult::within_tolerance(difference, 1e-5))
        },
    )?;
    page.claim(
        "a block is x plus attention, then plus the MLP, each applied to the norm of x, in the library too",
        "block in src/course/day06.rs, Block::forward in src/model/block.rs",
        || {
            let library = Block::new(&parameters.under("h.0"), &model)?.forward(&x, None, None)?;
            let difference = largest_difference(&block(&x, &weights, "h.0", heads)?, &library)?;
            // Outputs around 1 that are sums of up to 128 products in float32, in different orders.
            Ok(CheckResult::within_tolerance(difference, 1e-5))
        },
    )?;

    say("computing the gradients of four deep stacks");
    let [ids, targets] = ids_and_targets(&workspace.validation_batch(4, model.context)?);
    let (mut norms, mut cosines) = (Vec::new(), Vec::new()); // of each variant, of each block
    for (_, with) in VARIANTS {
        // ANCHOR: stack
        let outputs = |weights: &Weights| -> Result<Vec<Array>> {
            let mut outputs = vec![embed(&ids, weights, 0)?];
            for layer in 0..DEPTH {
                outputs.push(variant(&outputs[layer], weights, &format!("h.{layer}"), heads, with)?);
            }
            Ok(outputs) // (DEPTH + 1) × [B, T, C]
        };
        let loss = |weights: &Weights| {
            let x = layer_norm(&outputs(weights)?[DEPTH], weights, "ln_f")?;
            let logits = x.matmul(weights["wte.weight"].transpose()?)?; // [B, T, V]
            cross_entropy(&logits, &targets)
        };
        let gradients = gradients_by_name(&weights, loss)?;
        // ANCHOR_END: stack
        let norms_of_blocks = (0..DEPTH).map(|layer| norm(&gradients, &format!("h.{layer}.")));
        norms.push(norms_of_blocks.collect::<anyhow::Result<Vec<f64>>>()?);
        let outputs = outputs(&weights)?;
        let cosines_of_blocks = outputs[1..].iter().map(mean_cosine);
        cosines.push(cosines_of_blocks.collect::<anyhow::Result<Vec<f64>>>()?);
    }
    page.figure("gradients.txt", || Ok(by_block(&norms, |norm| format!("{norm:.1e}"))))?;
    page.figure("gradients.svg", || {
        let line = |((formula, _), norms): (&(&str, _), &Vec<f64>)| {
            Series::numbered(formula, 1, norms.iter().map(|norm| norm.log10()))
        };
        let lines: Vec<Series> = VARIANTS.iter().zip(&norms).map(line).collect();
        let axes = Axes {
            title: "Gradient norm of each block",
            x: "block, the first is the farthest from the loss",
            y: "log10 of the gradient's norm",
            ..Axes::default()
        };
        curves(&axes, &lines)
    })?;
    page.claim(
        "with sums and norms the first block's gradient is the last one's within a factor of 10; without, it is less than a hundredth",
        "variant in src/course/programs/day06.rs",
        || {
            let [with, without] = [0, 3].map(|variant: usize| norms[variant][0] / norms[variant][DEPTH - 1]);
            let measured = format!("{with:.1e} of the last one's with, {without:.1e} without");
            Ok(CheckResult::passes_if((0.1..10.0).contains(&with) && without < 0.01, measured))
        },
    )?;
    page.figure("alike.txt", || Ok(by_block(&cosines, |cosine| format!("{cosine:.3}"))))?;
    page.claim(
        "without residual connections a deep stack makes all tokens alike; with them, they stay ten times as far apart",
        "variant in src/course/programs/day06.rs",
        || {
            let [with, without] = [0, 2].map(|variant: usize| 1.0 - cosines[variant][DEPTH - 1]);
            let measured = format!("1 less the mean cosine is {with:.1e} with, {without:.1e} without");
            Ok(CheckResult::passes_if(with > 10.0 * without, measured))
        },
    )?;

    // Four vectors of six channels: the n-th has mean n and n times the standard deviation.
    let size = ops::arange::<_, f32>(1.0, 5.0, None)?.expand_dims(-1)?; // [4, 1]
    let uneven = random::normal::<f32>(&[4, 6], None, None, &key)?
        .multiply(&size)?
        .add(&size)?; // [4, 6]
    let other = ops::concatenate(&[uneven.try_index(..3)?, uneven.try_index(3..)?.negative()?], 0)?;
    let change_of_first = |axis| {
        let [before, after] = [&uneven, &other].map(|x| normalize(x, axis)?.try_index(0));
        largest_difference(&before?, &after?)
    };
    let (by_layer, by_batch) = (change_of_first(1)?, change_of_first(0)?);
    page.figure("norms.txt", || {
        Ok(format!(
            "{}{}{}the last vector with its sign changed: the first one moves by {by_layer:.2} in layer norm, by {by_batch:.2} in batch norm\n",
            means_and_deviations("x", &uneven)?,
            means_and_deviations("layer norm", &normalize(&uneven, 1)?)?,
            means_and_deviations("batch norm", &normalize(&uneven, 0)?)?
        ))
    })?;
    page.claim(
        "layer norm is the normalised vector times the gain plus the bias, in the library too",
        "layer_norm in src/course/day06.rs, LayerNorm::forward in src/model/norm.rs",
        || {
            let [gain, bias] = [1, 2].map(|seed| random::normal::<f32>(&[6], None, None, &random::key(seed)?));
            let entries = vec![("ln.weight".into(), gain?), ("ln.bias".into(), bias?)];
            let parameters = Parameters::from_entries(entries);
            let library = LayerNorm::new(&parameters.under("ln"))?.forward(&uneven)?;
            let by_hand = layer_norm(&uneven, &Weights::from(&parameters), "ln")?;
            let difference = largest_difference(&by_hand, &library)?;
            // Numbers up to 6, by two formulas for the variance in float32.
            Ok(CheckResult::within_tolerance(difference, 5e-6))
        },
    )?;
    page.claim(
        "layer norm gives each vector mean 0 and variance 1, whatever else is in the batch; batch norm depends on the batch",
        "normalize in src/course/day06.rs",
        || {
            let normed = normalize(&uneven, -1)?;
            let mean = largest_difference(&normed.mean_axis(-1, false)?, &Array::from_f32(0.0))?;
            let variance = largest_difference(&normed.var_axis(-1, false, None)?, &Array::from_f32(1.0))?;
            // The variance is v / (v + 1e-5); those here are above 0.01, so it is at most 1e-3 too small.
            let normal = mean <= 1e-6 && variance <= 1e-3;
            let own = by_layer == 0.0 && by_batch > 1e-2;
            let measured = format!(
                "means within {mean:.1e} of 0, variances within {variance:.1e} of 1; changed by another vector: \
                 {by_layer} in layer norm, {by_batch:.2} in batch norm"
            );
            Ok(CheckResult::passes_if(normal && own, measured))
        },
    )?;

    let million = Array::ones::<f32>(&[1024, 1024])?;
    let dropped = dropout(&million, RATE, &key)?;
    page.figure("dropout.txt", || {
        let ones = Array::ones::<f32>(&[4, 10])?;
        let [first, again] = [dropout(&ones, RATE, &key)?, dropout(&ones, RATE, &key)?];
        Ok(format!(
            "ones after dropout of {RATE}:\n\n{}\nmean of a million of them {:.3}; the same key a second time: a difference of {}\n",
            table(&numbered(4), &first, 2)?,
            mean(&dropped)?,
            largest_difference(&first, &again)?
        ))
    })?;
    page.claim(
        "dropout zeroes the given fraction and keeps the mean; the library zeroes the same numbers",
        "dropout in src/course/day06.rs, Dropout::apply in src/model/dropout.rs",
        || {
            let library = Dropout::new(RATE, key.expand_dims(0)?, million.dim(0), 0).apply(&million)?;
            let off = largest_difference(&dropped, &library)?;
            let (mean, zeroed) = (mean(&dropped)?, mean(&ops::eq(&dropped, Array::from_f32(0.0))?)?);
            let measured = format!("{zeroed:.4} of {RATE} zeroed, mean {mean:.4}, {off} from the library");
            // Of a million draws, the mean is known to 5e-4 (one standard deviation).
            let right = (zeroed - RATE).abs() < 3e-3 && (mean - 1.0).abs() < 3e-3;
            Ok(CheckResult::passes_if(right && off == 0.0, measured))
        },
    )?;

    let hint = "Block in src/model/block.rs, or the training of both";
    page.figure("one-block.txt", || Ok(workspace.train(&ONE_BLOCK)?.summary()))?;
    page.claim("one block has a lower loss than attention alone", hint, || {
        lower_loss(workspace, &ONE_BLOCK, &HEADS)
    })?;
    page.figure("training.txt", || Ok(workspace.train(&BLOCKS)?.summary()))?;
    page.claim(
        "three blocks, with twice the steps, have a lower loss than one",
        hint,
        || lower_loss(workspace, &BLOCKS, &ONE_BLOCK),
    )
}

/// Rescales a matrix `[in, out]` to variance 1 / in (LeCun initialisation), which preserves the variance of activations. With
/// GPT-2's smaller standard deviation, activations of a stack without residual connections would vanish at once.
fn unit_variance(array: &Array) -> Result<Array> {
    if array.ndim() < 2 {
        return Ok(array.clone());
    }
    let variance = array.var(None, None)?.multiply(Array::from_f32(array.dim(0) as f32))?;
    array.divide(variance.sqrt()?)
}

/// The mean cosine similarity of the tokens of a text, over all pairs: of x `[B, T, C]`.
fn mean_cosine(x: &Array) -> anyhow::Result<f64> {
    let length = x.square()?.sum_axis(-1, true)?.sqrt()?;
    let middle = x.divide(length)?.mean_axis(1, false)?; // [B, C]
    // The squared length of a mean of unit vectors is the mean of all their products.
    Ok(f64::from(mean(&middle.square()?.sum_axis(-1, false)?)?))
}

/// A line for each block, a column for each variant.
fn by_block(numbers: &[Vec<f64>], written: impl Fn(f64) -> String) -> String {
    let mut text = String::from("block  x + f(norm(x))        x + f(x)      f(norm(x))            f(x)\n");
    for block in 0..DEPTH {
        let cells = numbers
            .iter()
            .map(|numbers| format!("  {:>14}", written(numbers[block])));
        text += &format!("{:>5}{}\n", block + 1, cells.collect::<String>());
    }
    text
}

/// Four vectors `[4, 6]`, with the mean and the standard deviation of each, and of each channel.
fn means_and_deviations(name: &str, x: &Array) -> anyhow::Result<String> {
    let of = |axis| anyhow::Ok([x.mean_axis(axis, true)?, x.var_axis(axis, true, None)?.sqrt()?]);
    let ([row_mean, row_deviation], of_columns) = (of(1)?, of(0)?);
    let rows = ops::concatenate(&[x, &row_mean, &row_deviation], 1)?; // [4, 8]
    let rows = table(&[1, 2, 3, 4].map(|row| format!("vector {row}")), &rows, 2)?;
    let of_columns = ops::concatenate(&of_columns, 0)?; // [2, 6]
    let of_columns = table(&["mean    ", "spread  "].map(String::from), &of_columns, 2)?;
    Ok(format!("{name:<10}{:>43}{:>8}\n{rows}{of_columns}\n", "mean", "spread"))
}

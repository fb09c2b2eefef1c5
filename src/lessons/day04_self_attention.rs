//! Day 4: one head of attention.

use std::fmt::Write;

use anyhow::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops, random};

use super::arrays::{largest_difference, table, visible};
use super::attention_maps::{AttentionMap, habits};
use super::claims::{CheckResult, Claim, lower_loss};
use super::day04_by_hand::{WorkedExample, future, masked, masked_softmax, scores};
use super::day04_communication::{DOG, MAN, among, apart, change_of_last, change_of_row, kinds, order, order_matters};
use super::pictures;
use super::workspace::Workspace;
use super::{Figure, Lesson, Recipe};
use crate::config::{Architecture, TrainConfig};

/// Day 4.
pub const LESSON: Lesson = Lesson {
    day: 4,
    title: "Self-attention",
    teaches: "queries, keys and values: each token chooses which earlier tokens to attend to",
    chapter: include_str!("../../book/src/day-04.md"),
    figures: &[
        Figure {
            name: "projections.txt",
            render: projections,
        },
        Figure {
            name: "scores.txt",
            render: scores_of_text,
        },
        Figure {
            name: "weights.txt",
            render: weights_of_text,
        },
        Figure {
            name: "one-head.txt",
            render: one_head,
        },
        Figure {
            name: "scale.txt",
            render: scale,
        },
        Figure {
            name: "order.txt",
            render: order,
        },
        Figure {
            name: "apart.txt",
            render: apart,
        },
        Figure {
            name: "kinds.txt",
            render: kinds,
        },
        Figure {
            name: "training.txt",
            render: training,
        },
        Figure {
            name: "attention.txt",
            render: strongest_weights,
        },
        Figure {
            name: "attention.svg",
            render: |workspace| {
                let looks = looks(workspace)?;
                pictures::arcs(
                    "The two tokens that each token takes most from",
                    &looks.tokens,
                    &looks.heads[0],
                )
            },
        },
        Figure {
            name: "map.txt",
            render: |workspace| Ok(looks(workspace)?.map(0)),
        },
        Figure {
            name: "map.svg",
            render: |workspace| {
                let looks = looks(workspace)?;
                let title = "What each token (row) takes from each (column)";
                pictures::heat_map(title, &looks.tokens, &looks.tokens, &looks.heads[0])
            },
        },
        Figure {
            name: "habits.txt",
            render: |workspace| habits(workspace, ONE_HEAD.folder),
        },
    ],
    models: &[ONE_HEAD],
    needs: &[],
    claims: &[
        Claim {
            statement: "attention by hand (scores, mask, softmax, product) equals the library's fused attention",
            hint: "Attention::forward in src/model/attention.rs",
            verify: |workspace| {
                let (by_hand, fused) = both_ways(workspace)?;
                // Outputs around 1 that are sums of 128 products in float32, in different orders.
                Ok(CheckResult::within_tolerance(
                    largest_difference(&by_hand, &fused)?,
                    1e-5,
                ))
            },
        },
        Claim {
            statement: "the weights of each token add up to one, and those of the future are zero",
            hint: "Attention::weights and attention_weights in src/model/attention.rs",
            verify: |workspace| {
                let example = WorkedExample::new(workspace, &ONE_HEAD)?;
                let x = example.vectors(workspace, &[DOG, MAN])?;
                let weights = example.attention()?.weights(&x)?; // [B, 1, T, T]
                let sums = weights.sum_axis(-1, false)?;
                let on_future = ops::select(future(x.dim(1))?, &weights, Array::from_f32(0.0))?;
                let not_one = largest_difference(&sums, &Array::from_f32(1.0))?;
                let leaked = on_future.max(None)?.try_item_exact::<f32>()?;
                // Sums of up to 14 numbers in float32; e to the minus infinity is zero exactly.
                Ok(match CheckResult::within_tolerance(not_one, 1e-6) {
                    CheckResult::Passed(sums) => {
                        CheckResult::passes_if(leaked == 0.0, format!("{sums}; {leaked} on the future"))
                    }
                    broken => broken,
                })
            },
        },
        Claim {
            statement: "the variance of q · k is the head size, and divided by its root it is 1",
            hint: "scale in src/model/attention.rs",
            verify: |workspace| {
                let size = ONE_HEAD_SIZE;
                let [spread, scaled] = [1.0, (size as f32).sqrt()].map(|divisor| spread(workspace, size, divisor));
                let (before, after) = (spread?.variance / size as f32, scaled?.variance);
                // 65,536 scores of 8192 keys: their variance is known to about half a percent.
                Ok(CheckResult::passes_if(
                    (before - 1.0).abs() < 0.05 && (after - 1.0).abs() < 0.05,
                    format!("{before:.3} times {size}, and {after:.3}"),
                ))
            },
        },
        Claim {
            statement: "without positions, the result is the same for any order of the past",
            hint: "Attention::forward in src/model/attention.rs: what depends on the position there?",
            verify: |workspace| {
                let (without, with) = order_matters(workspace)?;
                // The same sum of 14 vectors around 1, in another order.
                Ok(CheckResult::passes_if(
                    without <= 1e-5 && with > 1e-2,
                    format!("a difference of {without:.1e} without positions, {with:.2} with them"),
                ))
            },
        },
        Claim {
            statement: "a token never sees the future: changing a later token changes nothing before it",
            hint: "the mask in Attention::forward, src/model/attention.rs",
            verify: |workspace| {
                let (before, from) = change_of_last(workspace)?;
                // Hidden tokens have a weight of exactly zero.
                Ok(CheckResult::passes_if(
                    before == 0.0 && from > 0.0,
                    format!("{before} before it, {from:.2} at it"),
                ))
            },
        },
        Claim {
            statement: "rows of a batch do not affect each other",
            hint: "the axes in Attention::forward, src/model/attention.rs",
            verify: |workspace| {
                let (other, own) = change_of_row(workspace)?;
                Ok(CheckResult::passes_if(
                    other == 0.0 && own > 0.0,
                    format!("{other} in the other row, {own:.2} in its own"),
                ))
            },
        },
        Claim {
            statement: "a head of attention has a lower loss than day 3's mean",
            hint: "Attention in src/model/attention.rs, or the training of both",
            verify: |workspace| lower_loss(workspace, ONE_HEAD.folder, "day-03"),
        },
        Claim {
            statement: "and a lower loss than day 2's bigram model",
            hint: "Attention in src/model/attention.rs, or the training of both",
            verify: |workspace| lower_loss(workspace, ONE_HEAD.folder, "day-02"),
        },
    ],
};

pub(super) const ONE_HEAD: Recipe = Recipe {
    folder: "day-04",
    what: "one head of attention",
    // So small a model tolerates ten times the learning rate of the whole GPT.
    change: |config| TrainConfig {
        lr: 1e-2,
        min_lr: 1e-3,
        heads: 1,
        ..config.with_architecture(Architecture::Attention)
    },
    starts_from: None,
    band: (2.40, 2.45),
};

/// Channels of the only head of the preset nano.
const ONE_HEAD_SIZE: i32 = 128;

fn projections(workspace: &Workspace) -> Result<String> {
    let example = WorkedExample::new(workspace, &ONE_HEAD)?;
    let text = "to be";
    let x = example.vectors(workspace, &[text])?;
    let labels: Vec<String> = text.chars().map(visible).collect();
    let mut shown = format!("x        {:?}\n", x.shape());
    for (name, array) in ["queries", "keys", "values"].iter().zip(example.project(&x)?) {
        writeln!(shown, "{name:<8} {:?}, the first six numbers of each:\n", array.shape())?;
        shown += &table(&labels, &array.try_index((0, .., ..6))?, 2)?;
        shown.push('\n');
    }
    Ok(shown)
}

fn scores_of_text(workspace: &Workspace) -> Result<String> {
    let example = WorkedExample::new(workspace, &ONE_HEAD)?;
    let text = "to be";
    let [q, k, _] = example.project(&example.vectors(workspace, &[text])?)?;
    among(text, text, &scores(&q, &k)?)
}

fn weights_of_text(workspace: &Workspace) -> Result<String> {
    let example = WorkedExample::new(workspace, &ONE_HEAD)?;
    let text = "to be";
    let [q, k, _] = example.project(&example.vectors(workspace, &[text])?)?;
    let scores = scores(&q, &k)?;
    let hidden = future(q.dim(1))?;
    Ok(format!(
        "masked scores:\n\n{}\nweights:\n\n{}",
        among(text, text, &masked(&scores, &hidden)?)?,
        among(text, text, &masked_softmax(&scores, Some(&hidden))?)?
    ))
}

/// Output of a head on two texts, by hand and by the library's layer, `[2, T, C]`.
fn both_ways(workspace: &Workspace) -> Result<(Array, Array)> {
    let example = WorkedExample::new(workspace, &ONE_HEAD)?;
    let x = example.vectors(workspace, &[DOG, MAN])?;
    Ok((example.one_head(&x)?, example.attention()?.forward(&x, None, None)?))
}

fn one_head(workspace: &Workspace) -> Result<String> {
    let (by_hand, fused) = both_ways(workspace)?;
    Ok(format!(
        "by hand {:?}, by Attention::forward {:?}\nlargest number {:.2}, largest difference {:.1e}\n",
        by_hand.shape(),
        fused.shape(),
        ops::abs(&fused)?.max(None)?.try_item_exact::<f32>()?,
        largest_difference(&by_hand, &fused)?
    ))
}

/// Statistics of the scores and weights of random queries and keys.
struct Spread {
    /// Variance of the scores.
    variance: f32,
    /// The mean over rows of the largest weight.
    largest: f32,
    /// The mean trace of the softmax's Jacobian, Σ p(1 − p): the sensitivity of the weights to the scores.
    slope: f32,
}

/// Statistics for random queries and 64 keys of variance 1 and `size` numbers, with scores divided by `divisor`.
fn spread(workspace: &Workspace, size: i32, divisor: f32) -> Result<Spread> {
    let (queries_key, keys_key) = random::split(random::key(workspace.seed())?, 2)?;
    let queries = random::normal::<f32>(&[128, 8, size], None, None, &queries_key)?;
    let keys = random::normal::<f32>(&[128, 64, size], None, None, &keys_key)?;
    let scores = queries
        .matmul(keys.swap_axes(-1, -2)?)?
        .divide(Array::from_f32(divisor))?; // [128, 8, 64]
    let weights = masked_softmax(&scores, None)?;
    let squares = weights.square()?.sum_axis(-1, false)?;
    Ok(Spread {
        variance: scores.var(None, None)?.try_item_exact()?,
        largest: weights.max_axis(-1, false)?.mean(None)?.try_item_exact()?,
        slope: 1.0 - squares.mean(None)?.try_item_exact::<f32>()?,
    })
}

fn scale(workspace: &Workspace) -> Result<String> {
    let mut text = String::from(
        "            q · k as it is                    divided by the root\nhead size   variance  largest weight   slope   variance  largest weight   slope\n",
    );
    for size in [1, 4, 16, 64, 256] {
        write!(text, "{size:>9}")?;
        for divisor in [1.0, (size as f32).sqrt()] {
            let Spread {
                variance,
                largest,
                slope,
            } = spread(workspace, size, divisor)?;
            write!(text, "   {variance:>8.2}  {largest:>14.2}   {slope:>5.2}")?;
        }
        text.push('\n');
    }
    Ok(text)
}

fn training(workspace: &Workspace) -> Result<String> {
    Ok(workspace.train(&ONE_HEAD)?.summary())
}

fn looks(workspace: &Workspace) -> Result<AttentionMap> {
    AttentionMap::of(workspace, ONE_HEAD.folder, 24)
}

fn strongest_weights(workspace: &Workspace) -> Result<String> {
    let looks = looks(workspace)?;
    let mut text = String::new();
    for (place, (token, weights)) in looks.tokens.iter().zip(&looks.heads[0]).enumerate().skip(12) {
        let mut sources: Vec<usize> = (0..=place).collect();
        sources.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
        write!(text, "{token} at {place:<2} attends to")?;
        for from in sources.into_iter().take(4) {
            write!(
                text,
                "   {} {:>2} back {:.2}",
                looks.tokens[from],
                place - from,
                weights[from]
            )?;
        }
        text.push('\n');
    }
    Ok(text)
}

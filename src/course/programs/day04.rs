//! Day 4: the figures and claims of its chapter, in its order.

use std::fmt::Write;

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops, random};

use super::day02::BIGRAM;
use super::day03::AVERAGING;
use crate::config::{Architecture, TrainConfig};
use crate::course::day03::{Weights, causal_mask, embed};
use crate::course::day04::{attention_weights, one_head, queries_keys_values, scores};
use crate::lessons::arrays::{labels, largest_difference, table};
use crate::lessons::attention_maps::{AttentionMap, habits};
use crate::lessons::claims::{CheckResult, lower_loss};
use crate::lessons::page::Page;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe, pictures};
use crate::model::attention::Attention;

/// Day 4.
pub const LESSON: Lesson = Lesson {
    day: 4,
    title: "Self-attention",
    teaches: "queries, keys and values: each token chooses which earlier tokens to attend to",
    chapter: include_str!("../../../book/src/day-04.md"),
    models: &[ONE_HEAD],
    needs: &[],
    program,
};

/// Day 4's model. So small a model tolerates ten times the learning rate of the whole GPT.
pub const ONE_HEAD: Recipe = Recipe {
    folder: "day-04",
    what: "one head of attention",
    change: |config| TrainConfig {
        lr: 1e-2,
        min_lr: 1e-3,
        heads: 1,
        ..config.with_architecture(Architecture::Attention)
    },
    starts_from: None,
    band: (2.40, 2.45),
};

/// Two sentences of the same letters before the full stop.
pub const SENTENCES: [&str; 2] = ["dog bites man.", "man bites dog."];

fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let (model, parameters) = workspace.untrained_enlarged(&ONE_HEAD)?;
    let weights = Weights::from(&parameters);
    let vectors = |texts: &[&str]| anyhow::Ok(embed(&workspace.ids(texts)?, &weights, 0)?); // [B, T, C]

    let text = "to be";
    let x = vectors(&[text])?;
    let [q, k, v] = queries_keys_values(&x, &weights, "attn")?;
    page.figure("projections.txt", || {
        let mut shown = format!("x        {:?}\n", x.shape());
        for (name, array) in [("queries", &q), ("keys", &k), ("values", &v)] {
            let numbers = table(&labels(text), &array.try_index((0, .., ..6))?, 2)?;
            writeln!(
                shown,
                "{name:<8} {:?}, the first six numbers of each:\n\n{numbers}",
                array.shape()
            )?;
        }
        Ok(shown)
    })?;

    let all_scores = scores(&q, &k)?; // [1, T, T]
    page.figure("scores.txt", || crossed(text, text, &all_scores))?;
    let mask = causal_mask(x.dim(1))?; // [T, T]
    page.figure("weights.txt", || {
        let masked = ops::select(&mask, Array::from_f32(f32::NEG_INFINITY), &all_scores)?;
        let weights = attention_weights(&all_scores, Some(&mask))?;
        let (masked, weights) = (crossed(text, text, &masked)?, crossed(text, text, &weights)?);
        Ok(format!("masked scores:\n\n{masked}\nweights:\n\n{weights}"))
    })?;

    let sentences = vectors(&SENTENCES)?; // [2, T, C]
    let attention = Attention::new(&parameters.under("attn"), &model)?;
    let library = |x: &Array| anyhow::Ok(attention.forward(x, None, None)?);
    let by_hand = one_head(&sentences, &weights, "attn")?;
    let difference = largest_difference(&by_hand, &library(&sentences)?)?;
    page.figure("one-head.txt", || {
        let largest: f32 = by_hand.abs()?.max(None)?.try_item_exact()?;
        Ok(format!(
            "by hand {:?}, by Attention::forward {:?}\nlargest number {largest:.2}, largest difference {difference:.1e}\n",
            by_hand.shape(),
            library(&sentences)?.shape()
        ))
    })?;
    page.claim(
        "attention by hand (scores, mask, softmax, product) equals the library's fused attention",
        "one_head in src/course/day04.rs, Attention::forward in src/model/attention.rs",
        // Outputs around 1 that are sums of 128 products in float32, in different orders.
        || Ok(CheckResult::within_tolerance(difference, 1e-5)),
    )?;
    page.claim(
        "the weights of each token add up to one, and those of the future are zero",
        "attention_weights in src/course/day04.rs, Attention::weights in src/model/attention.rs",
        || {
            let weights = attention.weights(&sentences)?; // [B, 1, T, T]
            let sums = weights.sum_axis(-1, false)?;
            let not_one = largest_difference(&sums, &Array::from_f32(1.0))?;
            let future = ops::select(causal_mask(weights.dim(-1))?, &weights, Array::from_f32(0.0))?;
            let leaked: f32 = future.max(None)?.try_item_exact()?;
            // Sums of up to 14 numbers in float32; e to the minus infinity is zero exactly.
            let measured = format!("sums within {not_one:.1e} of 1, {leaked} on the future");
            Ok(CheckResult::passes_if(not_one <= 1e-6 && leaked == 0.0, measured))
        },
    )?;

    page.figure("scale.txt", || {
        let mut text = String::from(
            "            q · k as it is                    divided by the root\nhead size   variance  largest weight   slope   variance  largest weight   slope\n",
        );
        for size in [1, 4, 16, 64, 256] {
            let [plain, scaled] = random_scores(workspace, size)?;
            writeln!(text, "{size:>9}{}{}", spread(&plain)?, spread(&scaled)?)?;
        }
        Ok(text)
    })?;
    page.claim(
        "the variance of q · k is the head size, and divided by its root it is 1",
        "scores in src/course/day04.rs",
        || {
            let [plain, scaled] = random_scores(workspace, 128)?;
            let plain = plain.var(None, None)?.try_item_exact::<f32>()? / 128.0;
            let scaled = scaled.var(None, None)?.try_item_exact::<f32>()?;
            // 65,536 scores of 8192 keys: their variance is known to about half a percent.
            Ok(CheckResult::passes_if(
                (plain - 1.0).abs() < 0.05 && (scaled - 1.0).abs() < 0.05,
                format!("{plain:.3} times 128, and {scaled:.3}"),
            ))
        },
    )?;

    // The outputs at the full stop of both sentences differ by this much: with positions, and without.
    let at_full_stop = |x: &Array| {
        let last = library(x)?.try_index((.., -1))?; // [2, C]
        largest_difference(&last.try_index(0)?, &last.try_index(1)?)
    };
    let with = at_full_stop(&sentences)?;
    let without = at_full_stop(&weights["wte.weight"].take_axis(workspace.ids(&SENTENCES)?, 0)?)?;
    page.figure("order.txt", || {
        let [dog, man] = SENTENCES;
        Ok(format!(
            "output at the full stop of {dog:?} and of {man:?}\n\n\
             largest difference without positions {without:.1e}\nlargest difference with positions    {with:.1e}\n"
        ))
    })?;
    page.claim(
        "without positions, the result is the same for any order of the past",
        "Attention::forward in src/model/attention.rs: what depends on the position there?",
        || {
            let measured = format!("a difference of {without:.1e} without positions, {with:.2} with them");
            // The same sum of 14 vectors around 1, in another order.
            Ok(CheckResult::passes_if(without <= 1e-5 && with > 1e-2, measured))
        },
    )?;

    let before = library(&vectors(&["to be or", "the king"])?)?; // [2, T, C]
    let later = library(&vectors(&["to be of", "the king"])?)?; // another last token in the first row
    let other = library(&vectors(&["to be or", "my queen"])?)?; // another second row
    let change = |after: &Array, row: i32, from: i32, to: i32| {
        let of = |x: &Array| x.try_index((row, from..to));
        largest_difference(&of(&before)?, &of(after)?)
    };
    let last = before.dim(1) - 1;
    let (earlier, at_last) = (change(&later, 0, 0, last)?, change(&later, 0, last, last + 1)?);
    let (first_row, second_row) = (change(&other, 0, 0, last + 1)?, change(&other, 1, 0, last + 1)?);
    page.figure("apart.txt", || {
        Ok(format!(
            "the last token changed:   outputs before it differ by {earlier}, its own by {at_last:.2}\n\
             the second row changed:   outputs of the first differ by {first_row}, its own by {second_row:.2}\n"
        ))
    })?;
    page.claim(
        "a token never sees the future: changing a later token changes nothing before it",
        "the mask in Attention::forward, src/model/attention.rs",
        // Hidden tokens have a weight of exactly zero.
        || {
            let measured = format!("{earlier} before it, {at_last:.2} at it");
            Ok(CheckResult::passes_if(earlier == 0.0 && at_last > 0.0, measured))
        },
    )?;
    page.claim(
        "rows of a batch do not affect each other",
        "the axes in Attention::forward, src/model/attention.rs",
        || {
            let measured = format!("{first_row} in the other row, {second_row:.2} in its own");
            Ok(CheckResult::passes_if(first_row == 0.0 && second_row > 0.0, measured))
        },
    )?;

    page.figure("kinds.txt", || {
        let another = "etre";
        let [_, other_keys, _] = queries_keys_values(&vectors(&[another])?, &weights, "attn")?;
        // ANCHOR: kinds
        let decoder = attention_weights(&scores(&q, &k)?, Some(&mask))?; // [B, T, T], a triangle
        let encoder = attention_weights(&scores(&q, &k)?, None)?; // [B, T, T], all of it
        let cross = attention_weights(&scores(&q, &other_keys)?, None)?; // [B, T, S]: the keys are another text's
        // ANCHOR_END: kinds
        Ok(format!(
            "decoder {:?}\n\n{}\nencoder {:?}\n\n{}\ncross-attention to {another:?} {:?}\n\n{}",
            decoder.shape(),
            crossed(text, text, &decoder)?,
            encoder.shape(),
            crossed(text, text, &encoder)?,
            cross.shape(),
            crossed(text, another, &cross)?
        ))
    })?;

    page.figure("training.txt", || Ok(workspace.train(&ONE_HEAD)?.summary()))?;
    for (worse, statement) in [
        (&AVERAGING, "a head of attention has a lower loss than day 3's mean"),
        (&BIGRAM, "and a lower loss than day 2's bigram model"),
    ] {
        let hint = "Attention in src/model/attention.rs, or the training of both";
        page.claim(statement, hint, || lower_loss(workspace, &ONE_HEAD, worse))?;
    }

    let map = || AttentionMap::of(workspace, ONE_HEAD.folder, 24);
    page.figure("attention.txt", || Ok(map()?.strongest(0, 12, 4)))?;
    page.figure("attention.svg", || {
        let map = map()?;
        pictures::arcs(
            "The two tokens that each token takes most from",
            &map.tokens,
            &map.heads[0],
        )
    })?;
    page.figure("map.txt", || Ok(map()?.map(0)))?;
    page.figure("map.svg", || {
        let map = map()?;
        let title = "What each token (row) takes from each (column)";
        pictures::heat_map(title, &map.tokens, &map.tokens, &map.heads[0])
    })?;
    page.figure("habits.txt", || habits(workspace, ONE_HEAD.folder))
}

/// Weights or scores `[1, T, S]` of the tokens of a text (rows) for those of another (columns).
fn crossed(readers: &str, sources: &str, array: &Array) -> anyhow::Result<String> {
    let columns: String = labels(sources).iter().map(|label| format!(" {label:>6}")).collect();
    Ok(format!(
        "  {columns}\n{}",
        table(&labels(readers), &array.squeeze_axes(&[0])?, 2)?
    ))
}

/// The products of random queries with 64 keys of variance 1 and `size` numbers, as they are and as [`scores`]; `[128, 8, 64]`.
fn random_scores(workspace: &Workspace, size: i32) -> anyhow::Result<[Array; 2]> {
    let (queries_key, keys_key) = random::split(random::key(workspace.seed())?, 2)?;
    let queries = random::normal::<f32>(&[128, 8, size], None, None, &queries_key)?;
    let keys = random::normal::<f32>(&[128, 64, size], None, None, &keys_key)?;
    Ok([queries.matmul(keys.swap_axes(-1, -2)?)?, scores(&queries, &keys)?])
}

/// The scores' variance; the mean over rows of the largest weight, and of the softmax's slope, Σ p(1 − p): how much the weights
/// change with the scores (the trace of the Jacobian).
fn spread(scores: &Array) -> anyhow::Result<String> {
    let weights = attention_weights(scores, None)?;
    let variance: f32 = scores.var(None, None)?.try_item_exact()?;
    let largest: f32 = weights.max_axis(-1, false)?.mean(None)?.try_item_exact()?;
    let squares: f32 = weights.square()?.sum_axis(-1, false)?.mean(None)?.try_item_exact()?;
    let slope = 1.0 - squares;
    Ok(format!("   {variance:>8.2}  {largest:>14.2}   {slope:>5.2}"))
}

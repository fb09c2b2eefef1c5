//! Day 3: the figures and claims of its chapter, in its order.

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{ops, random};

use super::day02::BIGRAM;
use crate::config::{Architecture, TrainConfig};
use crate::course::day03::{Weights, embed, mean_by_loop, mean_by_softmax, mean_weights, one_hot};
use crate::lessons::arrays::{labels, largest, largest_difference, numbered, rows, table};
use crate::lessons::claims::{CheckResult, lower_loss};
use crate::lessons::page::Page;
use crate::lessons::pictures::principal_components;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::model::averaging::average_past;
use crate::model::embeddings::Embeddings;

/// Day 3.
pub const LESSON: Lesson = Lesson {
    day: 3,
    title: "Embeddings, and the mean of the past",
    teaches: "tokens as vectors, positions, and the first way to look back",
    chapter: include_str!("../../../book/src/day-03.md"),
    models: &[AVERAGING],
    needs: &[],
    program,
};

/// Day 3's model. So small a model tolerates ten times the learning rate of the whole GPT.
pub const AVERAGING: Recipe = Recipe {
    folder: "day-03",
    what: "embeddings, averaged over the past",
    change: |config| TrainConfig {
        lr: 1e-2,
        min_lr: 1e-3,
        ..config.with_architecture(Architecture::Averaging)
    },
    starts_from: None,
    band: (3.0, 3.3),
};

fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    let (model, parameters) = workspace.untrained(&AVERAGING)?;
    let weights = Weights::from(&parameters);
    let wte = &weights["wte.weight"]; // [V, C]
    let ids = workspace.ids(&["to be"])?; // [1, T]
    let vectors = wte.take_axis(&ids, 0)?; // [1, T, C]
    page.figure("lookup.txt", || {
        Ok(format!(
            "wte.weight  {:?}: a row for each of {} tokens\nids         {:?}\nvectors     {:?}, the first six channels of each:\n\n{}",
            wte.shape(),
            wte.dim(0),
            ids.flatten(None, None)?.to_vec_exact::<u32>()?,
            vectors.shape(),
            table(&labels("to be"), &vectors.try_index((0, .., ..6))?, 3)?
        ))
    })?;

    let product = one_hot(&ids, wte.dim(0))?.matmul(wte)?; // [1, T, C]
    let difference = largest_difference(&vectors, &product)?;
    page.figure("one-hot.txt", || {
        Ok(format!(
            "one-hot rows times the table {:?}, lookup {:?}\nlargest difference {difference}\n",
            product.shape(),
            vectors.shape()
        ))
    })?;
    // One 1 and many zeros: no rounding.
    page.claim(
        "looking up a vector is a product with a one-hot vector",
        "one_hot in src/course/day03.rs",
        || Ok(CheckResult::within_tolerance(difference, 0.0)),
    )?;

    let ids = workspace.ids(&["eee"])?; // [1, T]
    let embedded = embed(&ids, &weights, 0)?; // [1, T, C]
    page.figure("positions.txt", || {
        let labels: Vec<String> = (0..3).map(|place| format!("e at {place}")).collect();
        table(&labels, &embedded.try_index((0, .., ..6))?, 3)
    })?;
    page.claim(
        "a token's vector is that of its id plus that of its position, in the library too",
        "embed in src/course/day03.rs, Embeddings::forward in src/model/embeddings.rs",
        || {
            let library = Embeddings::new(&model, &parameters)?.forward(&ids, 0)?;
            Ok(CheckResult::within_tolerance(
                largest_difference(&embedded, &library)?,
                0.0,
            ))
        },
    )?;

    let x = random::normal::<f32>(&[1, 8, 2], None, None, &random::key(workspace.seed())?)?; // 8 tokens, 2 channels
    let means = mean_weights(8)?.matmul(&x)?; // [1, 8, 2]
    let loop_off = largest_difference(&mean_by_loop(&x)?, &means)?;
    let softmax_off = largest_difference(&mean_by_softmax(&x)?, &means)?;
    page.figure("three-ways.txt", || {
        let both = ops::concatenate(&[&x, &means], -1)?.squeeze_axes(&[0])?; // [8, 4]
        Ok(format!(
            "mean_weights(4):\n\n{}\neight vectors x of two numbers each (left), and the means of their pasts (right):\n\n{}\n\
             largest difference of the matrix from the loop {loop_off:.1e}, from the softmax {softmax_off:.1e}\n",
            table(&numbered(4), &mean_weights(4)?, 2)?,
            table(&numbered(8), &both, 3)?
        ))
    })?;
    page.claim(
        "a loop, a matrix and a masked softmax compute the same mean of the past, which is the library's",
        "mean_by_loop, mean_weights and mean_by_softmax in src/course/day03.rs, average_past in src/model/averaging.rs",
        || {
            let library_off = largest_difference(&average_past(&x, None)?, &means)?;
            // Sums of 8 numbers around 1 in float32, in different orders.
            Ok(CheckResult::within_tolerance(
                largest([loop_off, softmax_off, library_off]),
                1e-6,
            ))
        },
    )?;

    page.figure("training.txt", || Ok(workspace.train(&AVERAGING)?.summary()))?;
    page.claim(
        "averaging forgets which token came last, and has a higher loss than day 2's bigram model",
        "the training of both: `lesson 2`, `lesson 3`",
        || lower_loss(workspace, &BIGRAM, &AVERAGING),
    )?;

    page.figure("neighbours.txt", || {
        let (labels, vectors) = workspace.embedding(AVERAGING.folder)?; // [V, C]
        let unit = vectors.divide(vectors.square()?.sum_axis(-1, true)?.sqrt()?)?;
        let cosines = rows(&unit.matmul(unit.transpose()?)?)?; // V × V
        let mut text = String::new();
        for asked in ["a", "t", "T", "A", ".", "␣"] {
            let Some(row) = labels.iter().position(|label| label == asked) else {
                continue;
            };
            let mut nearest: Vec<usize> = (0..labels.len()).filter(|&other| other != row).collect();
            nearest.sort_by(|&a, &b| cosines[row][b].total_cmp(&cosines[row][a]));
            let neighbour = |&other: &usize| format!("  {} {:.2}", labels[other], cosines[row][other]);
            let neighbours: String = nearest.iter().take(5).map(neighbour).collect();
            text += &format!("{asked}  is nearest to{neighbours}\n");
        }
        Ok(text)
    })?;
    page.figure("vectors.svg", || {
        let (labels, vectors) = workspace.embedding(AVERAGING.folder)?;
        principal_components("What day 3 learned of each character", labels, &vectors)
    })
}

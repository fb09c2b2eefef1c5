//! Day 3: vectors for tokens, and the mean of the past.

use std::fmt::Write;

use anyhow::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Device, Dtype, linalg, ops, random, with_device};

use super::arrays::{labels, largest_difference, rows, table};
use super::claims::{CheckResult, Claim, lower_loss};
use super::pictures;
use super::workspace::Workspace;
use super::{Figure, Lesson, Recipe};
use crate::config::{Architecture, TrainConfig};
use crate::model::averaging::{average_past, averaging_weights};
use crate::model::embeddings::Embeddings;
use crate::model::init::initialize;
use crate::model::parameters::Parameters;

/// Day 3.
pub const LESSON: Lesson = Lesson {
    day: 3,
    title: "Embeddings, and the mean of the past",
    teaches: "tokens as vectors, positions, and the first way to look back",
    chapter: include_str!("../../book/src/day-03.md"),
    figures: &[
        Figure {
            name: "lookup.txt",
            render: lookup,
        },
        Figure {
            name: "one-hot.txt",
            render: one_hot,
        },
        Figure {
            name: "positions.txt",
            render: positions,
        },
        Figure {
            name: "three-ways.txt",
            render: three_ways,
        },
        Figure {
            name: "training.txt",
            render: training,
        },
        Figure {
            name: "neighbours.txt",
            render: neighbours,
        },
        Figure {
            name: "vectors.svg",
            render: vectors,
        },
    ],
    models: &[AVERAGING],
    needs: &[],
    claims: &[
        Claim {
            statement: "looking up a vector is a product with a one-hot vector",
            hint: "Embedding::forward in src/model/embeddings.rs",
            verify: |workspace| {
                let (looked_up, product) = lookup_both_ways(workspace)?;
                // One 1 and many zeros: no rounding.
                Ok(CheckResult::within_tolerance(
                    largest_difference(&looked_up, &product)?,
                    0.0,
                ))
            },
        },
        Claim {
            statement: "a token's vector is that of its id plus that of its position",
            hint: "Embeddings::forward in src/model/embeddings.rs",
            verify: |workspace| {
                let (whole, sum) = sum_of_two(workspace)?;
                Ok(CheckResult::within_tolerance(largest_difference(&whole, &sum)?, 0.0))
            },
        },
        Claim {
            statement: "a loop, a matrix and a masked softmax compute the same mean of the past",
            hint: "average_past and averaging_weights in src/model/averaging.rs",
            verify: |workspace| {
                let x = some_vectors(workspace)?;
                let by_matrix = average_past(&x, None)?;
                let by_loop = largest_difference(&mean_by_loop(&x)?, &by_matrix)?;
                let by_softmax = largest_difference(&mean_by_softmax(&x)?, &by_matrix)?;
                // Sums of 8 numbers around 1 in float32, in different orders.
                Ok(CheckResult::within_tolerance(by_loop.max(by_softmax), 1e-6))
            },
        },
        Claim {
            statement: "averaging forgets which token came last, and has a higher loss than day 2's bigram model",
            hint: "the training of both: `lesson 2`, `lesson 3`",
            verify: |workspace| lower_loss(workspace, "day-02", AVERAGING.folder),
        },
    ],
};

const AVERAGING: Recipe = Recipe {
    folder: "day-03",
    what: "embeddings, averaged over the past",
    // So small a model tolerates ten times the learning rate of the whole GPT.
    change: |config| TrainConfig {
        lr: 1e-2,
        min_lr: 1e-3,
        ..config.with_architecture(Architecture::Averaging)
    },
    starts_from: None,
    band: (3.0, 3.3),
};

/// The embeddings of an untrained model, and the tokens of `text`, `[1, T]`.
fn fresh(workspace: &Workspace, text: &str) -> Result<(Parameters, Embeddings, Vec<u32>, Array)> {
    let tokenizer = workspace.tokenizer()?;
    let model = workspace.config(&AVERAGING)?.model(tokenizer.vocab_size());
    let parameters = initialize(&model, workspace.seed())?;
    let embeddings = Embeddings::new(&model, &parameters)?;
    let ids = tokenizer.encode(text)?;
    let array = Array::from_slice(&ids, &[1, ids.len() as i32]);
    Ok((parameters, embeddings, ids, array))
}

fn lookup(workspace: &Workspace) -> Result<String> {
    let (parameters, _, ids, array) = fresh(workspace, "to be")?;
    let table_of_all = parameters.get("wte.weight")?; // [V, C]
    let vectors = table_of_all.take_axis(&array, 0)?; // [1, T, C]
    let mut text = format!(
        "wte.weight  {:?}: a row for each of {} tokens\n",
        table_of_all.shape(),
        table_of_all.dim(0)
    );
    writeln!(text, "ids         {ids:?}")?;
    writeln!(
        text,
        "vectors     {:?}, the first six channels of each:\n",
        vectors.shape()
    )?;
    text += &table(
        &labels(workspace.tokenizer()?, &ids)?,
        &vectors.squeeze_axes(&[0])?.try_index((.., ..6))?,
        3,
    )?;
    Ok(text)
}

/// The vectors of "to be" by lookup, and by a product of one-hot rows with the table.
fn lookup_both_ways(workspace: &Workspace) -> Result<(Array, Array)> {
    let (parameters, _, _, ids) = fresh(workspace, "to be")?;
    let weight = parameters.get("wte.weight")?; // [V, C]
    // ANCHOR: one_hot
    let every_id = ops::arange::<_, u32>(None, weight.dim(0), None)?; // [V]
    let one_hot = ops::eq(&ids.expand_dims(-1)?, &every_id)?.as_dtype(Dtype::Float32)?; // [1, T, V]
    let product = one_hot.matmul(weight)?; // [1, T, C]
    let looked_up = weight.take_axis(&ids, 0)?; // [1, T, C]
    // ANCHOR_END: one_hot
    Ok((looked_up, product))
}

fn one_hot(workspace: &Workspace) -> Result<String> {
    let (looked_up, product) = lookup_both_ways(workspace)?;
    Ok(format!(
        "one-hot rows times the table {:?}, lookup {:?}\nlargest difference {}\n",
        product.shape(),
        looked_up.shape(),
        largest_difference(&looked_up, &product)?
    ))
}

/// The vectors of "eee" from the model, and as a sum of two lookups.
fn sum_of_two(workspace: &Workspace) -> Result<(Array, Array)> {
    let (parameters, embeddings, ids, array) = fresh(workspace, "eee")?;
    let places = parameters.get("wpe.weight")?.try_index(..ids.len() as i32)?; // [T, C]
    let sum = parameters.get("wte.weight")?.take_axis(&array, 0)?.add(places)?;
    Ok((embeddings.forward(&array, 0)?, sum))
}

fn positions(workspace: &Workspace) -> Result<String> {
    let (whole, _) = sum_of_two(workspace)?;
    let labels: Vec<String> = (0..3).map(|place| format!("e at {place}")).collect();
    let channels = whole.squeeze_axes(&[0])?.try_index((.., ..6))?;
    table(&labels, &channels, 3)
}

/// A row of 8 vectors of two channels, `[1, 8, 2]`.
fn some_vectors(workspace: &Workspace) -> Result<Array> {
    let key = random::key(workspace.seed())?;
    Ok(random::normal::<f32>(&[1, 8, 2], None, None, &key)?)
}

// ANCHOR: loop
fn mean_by_loop(x: &Array) -> Result<Array> {
    let means = (1..=x.dim(1)).map(|count| x.try_index((.., ..count))?.mean_axis(1, true));
    let means = means.collect::<mlx_rs::error::Result<Vec<_>>>()?; // T × [B, 1, C]
    Ok(ops::concatenate(&means, 1)?) // [B, T, C]
}
// ANCHOR_END: loop

// ANCHOR: softmax
fn mean_by_softmax(x: &Array) -> Result<Array> {
    let position = ops::arange::<_, i32>(None, x.dim(1), None)?; // [T]
    let future = ops::lt(position.expand_dims(-1)?, &position)?; // [T, T]
    let scores = ops::select(&future, Array::from_f32(f32::NEG_INFINITY), Array::from_f32(0.0))?;
    let weights = ops::softmax_axis(&scores, -1, true)?; // [T, T]
    Ok(weights.matmul(x)?)
}
// ANCHOR_END: softmax

fn three_ways(workspace: &Workspace) -> Result<String> {
    let x = some_vectors(workspace)?;
    let weights = averaging_weights(4, 4)?;
    let numbered = |count: i32| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
    let mut text = String::from("weights of the first four tokens, averaging_weights(4, 4):\n\n");
    text += &table(&numbered(4), &weights, 2)?;
    text += "\neight vectors x of two numbers each (left), and the means of their pasts (right):\n\n";
    let means = average_past(&x, None)?;
    let both = ops::concatenate(&[&x, &means], -1)?.squeeze_axes(&[0])?; // [8, 4]
    text += &table(&numbered(8), &both, 3)?;
    writeln!(
        text,
        "\nlargest difference of the matrix from the loop {:.1e}, from the softmax {:.1e}",
        largest_difference(&mean_by_loop(&x)?, &means)?,
        largest_difference(&mean_by_softmax(&x)?, &means)?
    )?;
    Ok(text)
}

fn training(workspace: &Workspace) -> Result<String> {
    Ok(workspace.train(&AVERAGING)?.summary())
}

/// The learned vectors of the corpus's tokens, and a label for each.
fn learned(workspace: &Workspace, folder: &str) -> Result<(Vec<String>, Array)> {
    let checkpoint = workspace.load(folder)?;
    let ids: Vec<u32> = (0..checkpoint.model.vocab_size as u32).collect();
    let labels = labels(&checkpoint.tokenizer, &ids)?;
    Ok((labels, checkpoint.parameters.get("wte.weight")?.clone()))
}

fn neighbours(workspace: &Workspace) -> Result<String> {
    let (labels, vectors) = learned(workspace, AVERAGING.folder)?;
    let length = vectors.square()?.sum_axis(-1, true)?.sqrt()?;
    let unit = vectors.divide(length)?; // [V, C]
    let cosines = rows(&unit.matmul(unit.transpose()?)?)?; // V × V
    let mut text = String::new();
    for asked in ["a", "t", "T", "A", ".", "␣"] {
        let Some(row) = labels.iter().position(|label| label == asked) else {
            continue;
        };
        let mut order: Vec<usize> = (0..labels.len()).filter(|&other| other != row).collect();
        order.sort_by(|&a, &b| cosines[row][b].total_cmp(&cosines[row][a]));
        write!(text, "{asked}  is nearest to")?;
        for &other in order.iter().take(5) {
            write!(text, "  {} {:.2}", labels[other], cosines[row][other])?;
        }
        text.push('\n');
    }
    Ok(text)
}

fn vectors(workspace: &Workspace) -> Result<String> {
    picture_of_vectors(workspace, AVERAGING.folder, "What day 3 learned of each character")
}

/// Principal components: the two directions in which the vectors of a day's model differ most.
pub(super) fn picture_of_vectors(workspace: &Workspace, folder: &str, title: &str) -> Result<String> {
    let (labels, vectors) = learned(workspace, folder)?;
    let centred = vectors.subtract(vectors.mean_axis(0, true)?)?; // [V, C]
    let (_, _, directions) = with_device(Device::cpu(), || linalg::svd(&centred))?;
    let flat = centred.matmul(directions.try_index(..2)?.transpose()?)?; // [V, 2]
    let points = labels.into_iter().zip(rows(&flat)?);
    let points: Vec<_> = points
        .map(|(label, place)| (label, f64::from(place[0]), f64::from(place[1])))
        .collect();
    pictures::points(title, &points)
}

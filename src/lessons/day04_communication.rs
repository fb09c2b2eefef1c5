//! Invariances of attention: causality, permutation of the past, independence of batch rows.

use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::ops::indexing::TryIndexOp;

use super::arrays::{largest_difference, table, visible};
use super::day04_by_hand::{WorkedExample, future, masked_softmax, scores};
use super::day04_self_attention::ONE_HEAD;
use super::workspace::Workspace;

/// A sentence, whose words occur in another order in [`MAN`].
pub const DOG: &str = "dog bites man.";
/// The same words in another order.
pub const MAN: &str = "man bites dog.";

/// Weights or scores `[1, T, S]` of the tokens of a text (rows) for those of another (columns).
pub fn among(readers: &str, sources: &str, array: &Array) -> Result<String> {
    let mut text = String::from("  ");
    for source in sources.chars() {
        text += &format!(" {:>6}", visible(source));
    }
    let labels: Vec<String> = readers.chars().map(visible).collect();
    Ok(text + "\n" + &table(&labels, &array.squeeze_axes(&[0])?, 2)?)
}

/// Difference of the outputs at the last token of two texts whose earlier tokens differ only in order: without position
/// embeddings, and with them.
pub fn order_matters(workspace: &Workspace) -> Result<(f32, f32)> {
    let example = WorkedExample::new(workspace, &ONE_HEAD)?;
    let attention = example.attention()?;
    let ids = example.ids(workspace, &[DOG, MAN])?;
    let without = example.parameters.get("wte.weight")?.take_axis(&ids, 0)?; // [2, T, C]
    let with = example.vectors(workspace, &[DOG, MAN])?;
    let apart = |x: &Array| -> Result<f32> {
        let last = attention.forward(x, None, None)?.try_index((.., -1))?; // [2, C]
        largest_difference(&last.try_index(0)?, &last.try_index(1)?)
    };
    Ok((apart(&without)?, apart(&with)?))
}

/// Figure: attention on two orders of the same words.
pub fn order(workspace: &Workspace) -> Result<String> {
    let (without, with) = order_matters(workspace)?;
    Ok(format!(
        "output at the full stop of {DOG:?} and of {MAN:?}\n\nlargest difference without positions {without:.1e}\nlargest difference with positions    {with:.1e}\n"
    ))
}

/// Change of the outputs when the last token changes: before it, and at it.
pub fn change_of_last(workspace: &Workspace) -> Result<(f32, f32)> {
    let [first, second] = two_outputs(workspace, [&["to be or"], &["to be of"]])?;
    let before = (.., ..-1);
    Ok((
        largest_difference(&first.try_index(before)?, &second.try_index(before)?)?,
        largest_difference(&first.try_index((.., -1))?, &second.try_index((.., -1))?)?,
    ))
}

/// Change of the outputs when a row of a batch changes: in the other row, and in its own.
pub fn change_of_row(workspace: &Workspace) -> Result<(f32, f32)> {
    let [first, second] = two_outputs(workspace, [&["to be or", "the king"], &["to be or", "my queen"]])?;
    let moved = |row: i32| largest_difference(&first.try_index(row)?, &second.try_index(row)?);
    Ok((moved(0)?, moved(1)?))
}

/// Figure: what changes when a later token or another row changes.
pub fn apart(workspace: &Workspace) -> Result<String> {
    let (before, at) = change_of_last(workspace)?;
    let (other, own) = change_of_row(workspace)?;
    Ok(format!(
        "the last token changed:   outputs before it differ by {before}, its own by {at:.2}\n\
         the second row changed:   outputs of the first differ by {other}, its own by {own:.2}\n"
    ))
}

/// Figure: decoder, encoder and cross-attention.
pub fn kinds(workspace: &Workspace) -> Result<String> {
    let example = WorkedExample::new(workspace, &ONE_HEAD)?;
    let (text, other) = ("to be", "etre");
    let other_vectors = example.vectors(workspace, &[other])?;
    let [q, k, _] = example.project(&example.vectors(workspace, &[text])?)?;
    let [_, other_keys, _] = example.project(&other_vectors)?;
    // ANCHOR: kinds
    let decoder = masked_softmax(&scores(&q, &k)?, Some(&future(q.dim(1))?))?; // [B, T, T], a triangle
    let encoder = masked_softmax(&scores(&q, &k)?, None)?; // [B, T, T], all of it
    let cross = masked_softmax(&scores(&q, &other_keys)?, None)?; // [B, T, S]: the keys are another text's
    // ANCHOR_END: kinds
    Ok(format!(
        "decoder {:?}\n\n{}\nencoder {:?}\n\n{}\ncross-attention to {other:?} {:?}\n\n{}",
        decoder.shape(),
        among(text, text, &decoder)?,
        encoder.shape(),
        among(text, text, &encoder)?,
        cross.shape(),
        among(text, other, &cross)?
    ))
}

fn two_outputs(workspace: &Workspace, batches: [&[&str]; 2]) -> Result<[Array; 2]> {
    let example = WorkedExample::new(workspace, &ONE_HEAD)?;
    let attention = example.attention()?;
    let output = |texts: &[&str]| -> Result<Array> {
        let x = example.vectors(workspace, texts)?;
        Ok(attention.forward(&x, None, None)?)
    };
    Ok([output(batches[0])?, output(batches[1])?])
}

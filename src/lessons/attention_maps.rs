//! Attention maps of trained models.

use std::fmt::Write;

use anyhow::{Context, Result};
use mlx_rs::Array;
use mlx_rs::ops::indexing::TryIndexOp;

use super::arrays::{rows, visible};
use super::workspace::Workspace;
use crate::data::corpus::Split;
use crate::model::attention::Attention;
use crate::model::embeddings::Embeddings;

/// The attention weights of a model's heads on a line of text.
pub struct AttentionMap {
    /// A label for each token.
    pub tokens: Vec<String>,
    /// By head, row (query) and column (key).
    pub heads: Vec<Vec<Vec<f32>>>,
}

impl AttentionMap {
    /// Attention of the model in `folder`, whose only attention layer is `attn`, on the first line of the validation text with
    /// that many characters.
    ///
    /// # Errors
    /// There is no such checkpoint or no such line.
    pub fn of(workspace: &Workspace, folder: &str, characters: usize) -> Result<Self> {
        let line = workspace
            .text(Split::Val)
            .lines()
            .find(|line| line.chars().count() > characters);
        let line: String = line
            .with_context(|| format!("no line of the validation text has {characters} characters"))?
            .chars()
            .take(characters)
            .collect();
        let weights = weights(workspace, folder, &workspace.tokenizer()?.encode(&line)?, 1)?.squeeze_axes(&[0])?; // [H, T, T]
        let heads = (0..weights.dim(0)).map(|head| rows(&weights.try_index(head)?));
        Ok(Self {
            tokens: line.chars().map(visible).collect(),
            heads: heads.collect::<Result<_>>()?,
        })
    }

    /// The `count` tokens that each token from place `first` on attends to most, how far back they are, and their weights.
    pub fn strongest(&self, head: usize, first: usize, count: usize) -> String {
        let mut text = String::new();
        for (place, (token, weights)) in self.tokens.iter().zip(&self.heads[head]).enumerate().skip(first) {
            let mut sources: Vec<usize> = (0..=place).collect();
            sources.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
            let source = |from: usize| {
                let (token, back, weight) = (&self.tokens[from], place - from, weights[from]);
                format!("   {token} {back:>2} back {weight:.2}")
            };
            let strongest: String = sources.into_iter().take(count).map(source).collect();
            text += &format!("{token} at {place:<2} attends to{strongest}\n");
        }
        text
    }

    /// A head's weights as a map of characters: a row for each query.
    pub fn map(&self, head: usize) -> String {
        let mut text = format!("  {}\n", self.tokens.concat());
        for (token, row) in self.tokens.iter().zip(&self.heads[head]) {
            text += &format!(
                "{token} {}\n",
                row.iter().map(|&weight| shade(weight)).collect::<String>()
            );
        }
        text
    }
}

/// Ten shades for weights from 0 to 1; the lightest is blank.
fn shade(weight: f32) -> char {
    const SHADES: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];
    SHADES[((weight * 10.0) as usize).min(9)]
}

/// Mean attention distance of each head of the model in `folder`, over the second half of windows of the validation text,
/// where there are many earlier tokens.
///
/// # Errors
/// There is no such checkpoint.
pub fn habits(workspace: &Workspace, folder: &str) -> Result<String> {
    const WINDOWS: usize = 32;
    const NEAR: usize = 4;
    let context = workspace.load(folder)?.model.context;
    let characters = workspace.text(Split::Val).chars().take(WINDOWS * context);
    let ids = workspace.tokenizer()?.encode(&characters.collect::<String>())?;
    let windows = ids.len() / context;
    let weights = weights(workspace, folder, &ids[..windows * context], windows as i32)?; // [B, H, T, T]
    let mut text = String::from("          itself  1 back  2 back  3 back  further    mean distance\n");
    for head in 0..weights.dim(1) {
        let (mut shares, mut distance, mut looks) = ([0.0; NEAR + 1], 0.0, 0.0);
        for (row, weights) in rows(&weights.try_index((.., head))?)?.iter().enumerate() {
            let place = row % context;
            if place < context / 2 {
                continue;
            }
            looks += 1.0;
            for (from, weight) in weights.iter().enumerate().take(place + 1) {
                shares[(place - from).min(NEAR)] += weight;
                distance += weight * (place - from) as f32;
            }
        }
        write!(text, "head {}  ", head + 1)?;
        for share in shares {
            write!(text, "  {:>5.1}%", 100.0 * share / looks)?;
        }
        writeln!(text, "  {:>13.1}", distance / looks)?;
    }
    Ok(text)
}

/// The weights of all heads for ids in rows of equal length, `[B, H, T, T]`.
fn weights(workspace: &Workspace, folder: &str, ids: &[u32], windows: i32) -> Result<Array> {
    let checkpoint = workspace.load(folder)?;
    let (model, parameters) = (&checkpoint.model, &checkpoint.parameters);
    let ids = Array::from_slice(ids, &[windows, ids.len() as i32 / windows]);
    let x = Embeddings::new(model, parameters)?.forward(&ids, 0)?; // [B, T, C]
    Ok(Attention::new(&parameters.under("attn"), model)?.weights(&x)?)
}

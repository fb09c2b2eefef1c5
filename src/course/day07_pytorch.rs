//! Day 7, parity with PyTorch: logits and gradients.

use std::fmt::Write;

use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::ops::indexing::TryIndexOp;

use super::day07_gpt2::inputs;
use crate::lessons::arrays::{largest_difference, table};
use crate::lessons::claims::CheckResult;
use crate::lessons::gradients::{gradients, largest_relative_difference};
use crate::lessons::pytorch::{LOGITS_ROWS, PyTorch};
use crate::lessons::workspace::Workspace;
use crate::model::Gpt;

fn both_logits(pytorch: &PyTorch) -> Result<(Array, Array)> {
    let ids = inputs(&pytorch.batch).try_index(..LOGITS_ROWS as i32)?;
    let ours = Gpt::new(&pytorch.model, &pytorch.parameters)?.forward(&ids, None)?;
    Ok((ours, pytorch.answer("logits")?))
}

fn both_gradients(pytorch: &PyTorch) -> Result<(Vec<Array>, Vec<Array>)> {
    let ours = gradients(&pytorch.model, &pytorch.parameters, &pytorch.batch, 1)?.gradients;
    let names = pytorch.parameters.names().iter();
    let theirs = names.map(|name| pytorch.answer(&format!("grad.{name}")));
    Ok((ours, theirs.collect::<Result<_>>()?))
}

/// Figure: differences from PyTorch's logits and gradients.
pub fn pytorch(_: &Workspace) -> Result<String> {
    let pytorch = PyTorch::read()?;
    let (ours, theirs) = both_logits(&pytorch)?;
    let mut text = format!(
        "{}, vocabulary {}\nlogits {:?}; after the first row's last token, of the first six ids:\n\n",
        pytorch.model.shape(),
        pytorch.model.vocab_size,
        ours.shape()
    );
    for (name, logits) in [("mlx-gpt", &ours), ("PyTorch", &theirs)] {
        text += &table(&[name.into()], &logits.try_index((0..1, -1, ..6))?, 6)?;
    }
    let (our_gradients, their_gradients) = both_gradients(&pytorch)?;
    writeln!(
        text,
        "\nlargest difference of all {} logits {:.1e}",
        ours.size(),
        largest_difference(&ours, &theirs)?
    )?;
    writeln!(
        text,
        "and of all {} gradients, as a share of the largest in each array, {:.1e}",
        pytorch.parameters.count(),
        largest_relative_difference(&our_gradients, &their_gradients)?
    )?;
    Ok(text)
}

/// Claim: the logits are PyTorch's.
pub fn logits_are_pytorchs(_: &Workspace) -> Result<CheckResult> {
    let (ours, theirs) = both_logits(&PyTorch::read()?)?;
    // PyTorch's own float32 is off by 7e-7 from float64; another order of sums may be off by ten times that.
    Ok(CheckResult::within_tolerance(largest_difference(&ours, &theirs)?, 1e-5))
}

/// Claim: every gradient is PyTorch's.
pub fn gradients_are_pytorchs(_: &Workspace) -> Result<CheckResult> {
    let (ours, theirs) = both_gradients(&PyTorch::read()?)?;
    // As for the logits, relative to each tensor's largest magnitude.
    Ok(CheckResult::within_tolerance(
        largest_relative_difference(&ours, &theirs)?,
        1e-5,
    ))
}

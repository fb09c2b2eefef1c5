//! What a day claims, and whether it is so.

use anyhow::Result;

use super::lab::Lab;
use super::{Lesson, Recipe};
use crate::checkpoint::Checkpoint;

/// A claim of a lesson's.
pub struct Fact {
    /// In a sentence.
    pub claim: &'static str,
    /// Where to look if it does not hold.
    pub hint: &'static str,
    pub verify: fn(&Lab) -> Result<Finding>,
}

/// Whether a claim holds, with what was measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    Holds(String),
    Broken(String),
    /// It cannot be told yet, and why.
    Open(String),
}

impl Finding {
    /// Holds if `measured`, the largest difference between two ways of computing the same, is at most `tolerance`.
    pub fn equal_within(measured: f32, tolerance: f32) -> Self {
        let text = format!("largest difference {measured:.1e}, {tolerance:.0e} allowed");
        // So that not-a-number is broken.
        if measured <= tolerance {
            Self::Holds(text)
        } else {
            Self::Broken(text)
        }
    }

    /// Holds if `condition` does.
    pub fn whether(condition: bool, measured: String) -> Self {
        if condition {
            Self::Holds(measured)
        } else {
            Self::Broken(measured)
        }
    }
}

/// Checks all that a day claims, and the losses of its models: claim, finding and hint of each.
///
/// # Errors
/// A checkpoint that is missing or broken.
pub fn check(lesson: &Lesson, lab: &Lab) -> Result<Vec<(String, Finding, &'static str)>> {
    let mut findings = Vec::new();
    for fact in lesson.facts {
        findings.push((fact.claim.to_owned(), (fact.verify)(lab)?, fact.hint));
    }
    for recipe in lesson.models {
        let (low, high) = recipe.band;
        findings.push((
            format!("the validation loss of {} is from {low} to {high}", recipe.what),
            loss_in_band(recipe, lab)?,
            "the model's layers, or how it is trained; `git diff` shows what was changed",
        ));
    }
    Ok(findings)
}

/// Whether a model that has learned for all its steps has a lower validation loss than the one in `earlier`.
///
/// # Errors
/// The model's own checkpoint is missing.
pub fn lower_loss(lab: &Lab, recipe: &Recipe, earlier: &str) -> Result<Finding> {
    let loss = lab.results(recipe.folder)?.val_loss;
    Ok(match lab.results(earlier) {
        Ok(other) if lab.is_whole(recipe)? => Finding::whether(
            loss < other.val_loss,
            format!("{loss:.4} against {:.4} of {earlier}", other.val_loss),
        ),
        _ => Finding::Open(format!(
            "it needs {} and {earlier}, trained to their ends",
            recipe.folder
        )),
    })
}

/// Measures the loss anew: what was recorded may be older than the code.
fn loss_in_band(recipe: &Recipe, lab: &Lab) -> Result<Finding> {
    let results = lab.results(recipe.folder)?;
    if !lab.is_whole(recipe)? {
        return Ok(Finding::Open(format!(
            "it has learned for {} steps, too few for that",
            results.steps
        )));
    }
    if !lab.has_bands() {
        return Ok(Finding::Open(format!(
            "the loss is {:.4}; the band is of the preset nano and the built-in corpus",
            results.val_loss
        )));
    }
    let (loss, _) = lab.measure(&Checkpoint::load(&lab.checkpoint(recipe.folder)?)?)?;
    let (low, high) = recipe.band;
    Ok(Finding::whether((low..=high).contains(&loss), format!("{loss:.4}")))
}

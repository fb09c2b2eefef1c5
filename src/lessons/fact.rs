//! Verification of a lesson's claims.

use anyhow::Result;

use super::lab::Lab;
use super::{LESSONS, Lesson, Recipe};
use crate::checkpoint::Checkpoint;

/// A lesson's claim, with its check.
pub struct Fact {
    /// The claim in a sentence.
    pub claim: &'static str,
    /// The source to look at if the check fails.
    pub hint: &'static str,
    pub verify: fn(&Lab) -> Result<Finding>,
}

/// The result of a check, with what was measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    Holds(String),
    Broken(String),
    /// It can't be checked yet, with the reason.
    Open(String),
}

impl Finding {
    /// Holds if `measured`, the largest difference between two computations of the same values, is at most `tolerance`.
    pub fn equal_within(measured: f32, tolerance: f32) -> Self {
        let text = format!("largest difference {measured:.1e}, {tolerance:.0e} allowed");
        // Written so that NaN fails.
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

/// Checks all claims of a day, and the losses of its models: claim, result and hint of each.
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

/// Whether the model in `better` has a lower loss than that in `worse`; open until both are fully trained.
///
/// # Errors
/// Results that cannot be read.
pub fn lower_loss(lab: &Lab, better: &str, worse: &str) -> Result<Finding> {
    let whole = |folder: &str| -> Result<Option<f64>> {
        let recipe = LESSONS
            .iter()
            .flat_map(|lesson| lesson.models)
            .find(|recipe| recipe.folder == folder);
        Ok(match (recipe, lab.results(folder)) {
            (Some(recipe), Ok(results)) if lab.is_fully_trained(recipe)? => Some(results.val_loss),
            _ => None,
        })
    };
    Ok(match (whole(better)?, whole(worse)?) {
        (Some(lower), Some(higher)) => Finding::whether(
            lower < higher,
            format!("{lower:.4} of {better} against {higher:.4} of {worse}"),
        ),
        _ => Finding::Open(format!("it needs the models in {better} and {worse}, fully trained")),
    })
}

/// Measures the loss again, because the recorded one may be older than the code.
fn loss_in_band(recipe: &Recipe, lab: &Lab) -> Result<Finding> {
    let results = lab.results(recipe.folder)?;
    if !lab.is_fully_trained(recipe)? {
        return Ok(Finding::Open(format!("trained for only {} steps", results.steps)));
    }
    if !lab.has_expected_losses() {
        return Ok(Finding::Open(format!(
            "the loss is {:.4}; the expected range applies to the preset nano and the built-in corpus",
            results.val_loss
        )));
    }
    let (loss, _) = lab.measure(&Checkpoint::load(&lab.checkpoint(recipe.folder)?)?)?;
    let (low, high) = recipe.band;
    Ok(Finding::whether((low..=high).contains(&loss), format!("{loss:.4}")))
}

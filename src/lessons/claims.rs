//! Verification of a lesson's claims.

use anyhow::Result;

use super::workspace::Workspace;
use super::{LESSONS, Lesson, Recipe};
use crate::checkpoint::Checkpoint;

/// A lesson's claim, with its check.
pub struct Claim {
    /// The claim in a sentence.
    pub statement: &'static str,
    /// The source to look at if the check fails.
    pub hint: &'static str,
    /// Checks the claim on this machine.
    pub verify: fn(&Workspace) -> Result<CheckResult>,
}

/// The result of a check, with what was measured.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckResult {
    /// The claim holds, with what was measured.
    Passed(String),
    /// The claim does not hold, with what was measured.
    Failed(String),
    /// It can't be checked yet, with the reason.
    Skipped(String),
}

impl CheckResult {
    /// Passes if `measured`, the largest difference between two computations of the same values, is at most `tolerance`.
    pub fn within_tolerance(measured: f32, tolerance: f32) -> Self {
        let text = format!("largest difference {measured:.1e}, {tolerance:.0e} allowed");
        // Written so that NaN fails.
        if measured <= tolerance {
            Self::Passed(text)
        } else {
            Self::Failed(text)
        }
    }

    /// Passes if `condition` does.
    pub fn passes_if(condition: bool, measured: String) -> Self {
        if condition {
            Self::Passed(measured)
        } else {
            Self::Failed(measured)
        }
    }
}

/// Checks all claims of a day, and the losses of its models: claim, result and hint of each.
///
/// # Errors
/// A checkpoint that is missing or broken.
pub fn check(lesson: &Lesson, workspace: &Workspace) -> Result<Vec<(String, CheckResult, &'static str)>> {
    let mut results = Vec::new();
    for claim in lesson.claims {
        results.push((claim.statement.to_owned(), (claim.verify)(workspace)?, claim.hint));
    }
    for recipe in lesson.models {
        let (low, high) = recipe.band;
        results.push((
            format!("the validation loss of {} is from {low} to {high}", recipe.what),
            loss_in_band(recipe, workspace)?,
            "the model's layers, or how it is trained; `git diff` shows what was changed",
        ));
    }
    Ok(results)
}

/// Whether the model in `better` has a lower loss than that in `worse`; skipped until both are fully trained.
///
/// # Errors
/// Results that cannot be read.
pub fn lower_loss(workspace: &Workspace, better: &str, worse: &str) -> Result<CheckResult> {
    let whole = |folder: &str| -> Result<Option<f64>> {
        let recipe = LESSONS
            .iter()
            .flat_map(|lesson| lesson.models)
            .find(|recipe| recipe.folder == folder);
        Ok(match (recipe, workspace.results(folder)) {
            (Some(recipe), Ok(results)) if workspace.is_fully_trained(recipe)? => Some(results.val_loss),
            _ => None,
        })
    };
    Ok(match (whole(better)?, whole(worse)?) {
        (Some(lower), Some(higher)) => CheckResult::passes_if(
            lower < higher,
            format!("{lower:.4} of {better} against {higher:.4} of {worse}"),
        ),
        _ => CheckResult::Skipped(format!("it needs the models in {better} and {worse}, fully trained")),
    })
}

/// Measures the loss again, because the recorded one may be older than the code.
fn loss_in_band(recipe: &Recipe, workspace: &Workspace) -> Result<CheckResult> {
    let results = workspace.results(recipe.folder)?;
    if !workspace.is_fully_trained(recipe)? {
        return Ok(CheckResult::Skipped(format!(
            "trained for only {} steps",
            results.steps
        )));
    }
    if !workspace.has_expected_losses() {
        return Ok(CheckResult::Skipped(format!(
            "the loss is {:.4}; the expected range applies to the preset nano and the built-in corpus",
            results.val_loss
        )));
    }
    let (loss, _) = workspace.measure(&Checkpoint::load(&workspace.checkpoint(recipe.folder)?)?)?;
    let (low, high) = recipe.band;
    Ok(CheckResult::passes_if(
        (low..=high).contains(&loss),
        format!("{loss:.4}"),
    ))
}

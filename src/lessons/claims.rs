//! Results of the checks of a day's claims.

use anyhow::Result;

use super::results::Accuracy;
use super::workspace::Workspace;
use super::world::Answers;
use super::{Lesson, Recipe};
use crate::data::tasks::TaskData;

/// A claim that was checked.
pub struct Check {
    /// The claim in a sentence.
    pub statement: String,
    /// Whether it holds.
    pub result: CheckResult,
    /// The source to look at if it does not.
    pub hint: &'static str,
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

/// Whether each of a day's models has its expected loss.
///
/// # Errors
/// A checkpoint that is missing or broken.
pub fn losses_in_bands(lesson: &Lesson, workspace: &Workspace) -> Result<Vec<Check>> {
    let check = |recipe: &Recipe| {
        let (low, high) = recipe.band;
        Ok(Check {
            statement: format!(
                "the {} of {} is from {low} to {high}",
                if recipe.has_answers() {
                    "accuracy"
                } else {
                    "validation loss"
                },
                recipe.what
            ),
            result: loss_in_band(recipe, workspace)?,
            hint: "the model's layers, or how it is trained; `git diff` shows what was changed",
        })
    };
    let expected = |recipe: &&Recipe| recipe.band.1.is_finite();
    lesson.models.iter().filter(expected).map(check).collect()
}

/// Whether the model of `better` has a lower loss than that of `worse`; skipped until both are fully trained.
///
/// # Errors
/// Results that cannot be read.
pub fn lower_loss(workspace: &Workspace, better: &Recipe, worse: &Recipe) -> Result<CheckResult> {
    let whole = |recipe: &Recipe| -> Result<Option<f64>> {
        Ok(match workspace.results(recipe.folder) {
            Ok(results) if workspace.is_fully_trained(recipe)? => Some(results.val_loss),
            _ => None,
        })
    };
    let (first, second) = (better.folder, worse.folder);
    Ok(match (whole(better)?, whole(worse)?) {
        (Some(lower), Some(higher)) => CheckResult::passes_if(
            lower < higher,
            format!("{lower:.4} of {first} against {higher:.4} of {second}"),
        ),
        _ => CheckResult::Skipped(format!("it needs the models in {first} and {second}, fully trained")),
    })
}

/// Measures the loss or the accuracy again, because the recorded one may be older than the code.
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
    let checkpoint = workspace.load(recipe.folder)?;
    let (config, problems) = (workspace.config(recipe)?, workspace.problems());
    let measured = match (TaskData::of_config(&config)?, &config.chat) {
        (Some(task), _) => Accuracy::of(&checkpoint, &task, problems)?.0.total.accuracy(),
        (None, Some(_)) => Answers::of(&checkpoint, problems)?.accuracy.total.accuracy(),
        (None, None) => workspace.measure(&checkpoint)?.0,
    };
    let (low, high) = recipe.band;
    Ok(CheckResult::passes_if(
        (low..=high).contains(&measured),
        format!("{measured:.4}"),
    ))
}

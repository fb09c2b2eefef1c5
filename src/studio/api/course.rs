//! The days: what is done, the chapters with the figures that this machine has computed, and what to type.

use std::path::{Path, PathBuf};

use axum::extract::Path as Parts;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::course::{LESSONS, find};
use crate::disk::files;
use crate::lessons::Lesson;
use crate::lessons::chapter::{Section, figures, sections};
use crate::lessons::results::Results;
use crate::lessons::workbook::{Progress, WORKBOOK_FOLDER, Workbook, exercises, without_bodies};
use crate::lessons::workspace::LESSONS_FOLDER;
use crate::studio::http::answer::{self, Failure};

/// `GET /api/course`: the days with their models, and how many of their exercises were right when the workbook was last checked (null
/// without a workbook).
pub async fn days() -> Response {
    let progress = Workbook::open(Path::new(WORKBOOK_FOLDER)).map(|workbook| workbook.progress());
    let days: Vec<Value> = LESSONS
        .iter()
        .map(|lesson| describe(lesson, progress.as_ref().ok()))
        .collect();
    answer::ok(&json!({ "days": days }))
}

fn describe(lesson: &Lesson, progress: Option<&Progress>) -> Value {
    let models = lesson.models.iter().map(|recipe| {
        let results = Results::read(&Path::new(LESSONS_FOLDER).join(recipe.folder)).ok();
        json!({
            "id": format!("{LESSONS_FOLDER}/{}", recipe.folder), "what": recipe.what,
            "val_loss": results.as_ref().map(|results| results.val_loss),
            "steps": results.as_ref().map(|results| results.steps),
        })
    });
    let all = figures(lesson.chapter).count();
    let computed = figures(lesson.chapter)
        .filter(|name| figure_path(lesson, name).exists())
        .count();
    json!({
        "day": lesson.day, "title": lesson.title, "teaches": lesson.teaches,
        "models": models.collect::<Vec<Value>>(), "figures": all, "computed": computed,
        "exercises": exercises(lesson.day).map_or(0, |names| names.len()),
        "right": progress.map(|progress| progress.right(lesson.day)),
        "type": [
            format!("mlx-gpt lesson {}", lesson.day),
            format!("mlx-gpt lesson check {}", lesson.day),
            format!("mlx-gpt lesson check {} --mine", lesson.day),
        ],
    })
}

/// `GET /api/course/{day}`: the chapter, section by section, as `lesson` prints it.
///
/// # Errors
/// There is no such day.
pub async fn chapter(Parts(day): Parts<String>) -> Result<Response, Failure> {
    let lesson = lesson(&day)?;
    // What is the learner's to write is left out, as `lesson` does.
    let has_workbook = Workbook::open(Path::new(WORKBOOK_FOLDER)).is_ok();
    let show = |section: Section| match section {
        Section::Text(markdown) if has_workbook => {
            json!({"markdown": without_bodies(&markdown).unwrap_or(markdown)})
        }
        Section::Text(markdown) => json!({"markdown": markdown}),
        Section::Figure { before, name, after } => {
            let figure = files::read(&figure_path(lesson, name))
                .ok()
                .map(|text| String::from_utf8_lossy(&text).into_owned());
            json!({"before": before, "name": name, "after": after, "figure": figure})
        }
        Section::Picture { caption, name } => {
            json!({"caption": caption, "name": name, "picture": figure_path(lesson, name).exists()})
        }
    };
    let shown: Vec<Value> = sections(lesson.chapter).into_iter().map(show).collect();
    Ok(answer::ok(
        &json!({"day": lesson.day, "title": lesson.title, "sections": shown}),
    ))
}

/// `GET /api/course/{day}/{picture}`: a picture of a chapter.
///
/// # Errors
/// It is none of the chapter's, or is not computed yet.
pub async fn picture(Parts((day, name)): Parts<(String, String)>) -> Result<Response, Failure> {
    let lesson = lesson(&day)?;
    let unknown = || Failure::bad(format!("day {} has no picture {name:?} yet", lesson.day)).not_found();
    // Only a name that the chapter has becomes a path.
    let own = figures(lesson.chapter).find(|own| *own == name && own.ends_with(".svg"));
    let picture = own.and_then(|own| files::read(&figure_path(lesson, own)).ok());
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], picture.ok_or_else(unknown)?).into_response())
}

fn lesson(day: &str) -> Result<&'static Lesson, Failure> {
    let lesson = day.parse().ok().and_then(|day| find(day).ok());
    lesson.ok_or_else(|| Failure::bad(format!("there is no day {day:?}")).not_found())
}

fn figure_path(lesson: &Lesson, name: &str) -> PathBuf {
    let day = format!("day-{:02}", lesson.day);
    Path::new(LESSONS_FOLDER).join("figures").join(day).join(name)
}

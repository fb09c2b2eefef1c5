//! The runs, and what they log: a page asks for what is new since it last asked.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;
use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};

use super::training::log_path;
use super::{BODY_BYTES, query};
use crate::checkpoint::run::Run;
use crate::checkpoint::runs::{self, RUNS};
use crate::checkpoint::{Checkpoint, read_state_if_any};
use crate::disk::files;
use crate::lessons::workspace::LESSONS_FOLDER;
use crate::studio::http::answer::{self, Failure};
use crate::studio::http::body;

/// Longest piece of a run's metrics in one answer; the page asks again for the rest.
const PIECE: u64 = 1 << 20;

/// Bytes of the end of a training's messages.
const LOG_BYTES: u64 = 4096;

/// `GET /api/runs`: runs, the newest first, and the days'.
pub async fn list() -> Result<Response, Failure> {
    let listed = tokio::task::spawn_blocking(|| {
        let of = |folder: &str| runs::list(Path::new(folder)).unwrap_or_default();
        let (mut own, mut lessons) = (of(RUNS), of(LESSONS_FOLDER));
        own.reverse();
        lessons.sort_by_key(|run| run.folder.clone());
        own.iter().chain(&lessons).map(describe).collect::<Vec<Value>>()
    });
    let listed = listed.await.map_err(|error| Failure::bad(error.to_string()))?;
    Ok(answer::ok(&json!({ "runs": listed })))
}

fn describe(run: &Run) -> Value {
    let mut object = json!({
        "id": run.folder.to_string_lossy(),
        "training": run.trainer().is_some(),
        "age": run.modified().elapsed().map_or(0, |age| age.as_secs()),
    });
    match progress(run) {
        Ok(Value::Object(more)) => more.into_iter().for_each(|(name, value)| object[name] = value),
        Ok(_) => {}
        Err(error) => object["damaged"] = format!("{error:#}").into(),
    }
    object
}

fn progress(run: &Run) -> Result<Value> {
    let config = run.config()?;
    let newest = run.newest_checkpoint().ok();
    let state = newest.as_deref().map(read_state_if_any).transpose()?.flatten();
    let best = state.as_ref().and_then(|state| state.best);
    Ok(json!({
        "steps": state.as_ref().and_then(|state| state.pace).map_or(config.steps, |pace| pace.steps),
        "tokens_per_step": config.tokens_per_step(),
        "corpus": config.corpus,
        "saved": state.as_ref().map(|state| state.step),
        "best_loss": best.map(|best| best.val_loss),
    }))
}

/// A run that a page names, if it is one of the list.
pub fn find(id: &str) -> Result<Run, Failure> {
    let unknown = || Failure::param("run", format!("there is no run {id:?}")).not_found();
    let (folder, name) = id.split_once('/').ok_or_else(unknown)?;
    let known = [RUNS, LESSONS_FOLDER].contains(&folder);
    let runs = runs::list(Path::new(folder)).ok().filter(|_| known).unwrap_or_default();
    runs.into_iter().find(|run| run.name() == name).ok_or_else(unknown)
}

fn asked_run(parameters: &std::collections::HashMap<String, String>) -> Result<Run, Failure> {
    find(parameters.get("run").map_or("", String::as_str))
}

/// `GET /api/metrics?run=ID&from=BYTE&file=NUMBER`: the lines from that byte on. `file` is the number of the file in the last
/// answer; where it is another one now, as after resuming from an earlier checkpoint, the answer begins at its start.
///
/// # Errors
/// An unknown run.
pub async fn metrics(request: Request) -> Result<Response, Failure> {
    let parameters = query(request.uri().query());
    let run = asked_run(&parameters)?;
    let number = |name: &str| parameters.get(name).and_then(|text| text.parse::<u64>().ok());
    let (from, file) = (number("from").unwrap_or(0), number("file"));
    Ok(answer::ok(
        &new_lines(&run.metrics_path(), from, file).map_err(|error| Failure::bad(format!("{error:#}")))?,
    ))
}

fn new_lines(path: &Path, from: u64, known: Option<u64>) -> Result<Value> {
    if !path.exists() {
        return Ok(json!({"lines": "", "next": 0, "file": 0, "start": true})); // nothing is logged yet
    }
    let mut file = files::open(path)?;
    let metadata = file.metadata()?;
    let start = known != Some(metadata.ino()) || from > metadata.len();
    let from = if start { 0 } else { from };
    let mut lines = Vec::new();
    if from < metadata.len() {
        file.seek(SeekFrom::Start(from))?;
        file.take(PIECE).read_to_end(&mut lines)?;
    }
    // A line that is being written comes with the next answer.
    let whole = lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    lines.truncate(whole);
    Ok(json!({
        "lines": String::from_utf8_lossy(&lines), "next": from + whole as u64, "file": metadata.ino(), "start": start,
    }))
}

/// `GET /api/samples?run=ID`: the texts that the model wrote when it was saved.
///
/// # Errors
/// An unknown run.
pub async fn samples(request: Request) -> Result<Response, Failure> {
    let run = asked_run(&query(request.uri().query()))?;
    let steps = run.steps().unwrap_or_default();
    let sample = |&step: &u64| {
        let text = files::read(&Checkpoint::sample_path(&run.step_folder(step))).ok()?;
        Some(json!({"step": step, "text": String::from_utf8_lossy(&text)}))
    };
    Ok(answer::ok(
        &json!({"samples": steps.iter().filter_map(sample).collect::<Vec<_>>()}),
    ))
}

/// `GET /api/log?run=ID`: the end of what a training that was started here said, also before there is a run.
///
/// # Errors
/// A name that no run can have.
pub async fn log(request: Request) -> Result<Response, Failure> {
    let parameters = query(request.uri().query());
    let path = log_path(parameters.get("run").map_or("", String::as_str))?;
    Ok(answer::ok(&json!({"log": end_of(&path).unwrap_or_default()})))
}

fn end_of(path: &Path) -> Result<String> {
    let mut file = files::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `POST /api/runs/stop` with `run`: as Ctrl-C would, the training saves and ends.
///
/// # Errors
/// An unknown run, or one that nobody trains.
pub async fn stop(request: Request) -> Result<Response, Failure> {
    let body = body::object(request.into_body(), BODY_BYTES).await?;
    let id = super::text(&body, "run", 512)?;
    super::training::stop(&find(id)?)?;
    Ok(answer::ok(&json!({"run": id})))
}

/// `POST /api/runs/resume` with `run`.
///
/// # Errors
/// An unknown run, or one that is being trained.
pub async fn resume(request: Request) -> Result<Response, Failure> {
    let body = body::object(request.into_body(), BODY_BYTES).await?;
    let id = super::text(&body, "run", 512)?;
    super::training::resume(&find(id)?)?;
    Ok(answer::ok(&json!({"run": id})))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_whole_lines_that_are_new_are_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        assert_eq!(new_lines(&path, 0, None).unwrap()["lines"], "");
        fs::write(&path, "one\ntwo\nthr").unwrap();
        let first = new_lines(&path, 0, None).unwrap();
        assert_eq!(
            (&first["lines"], &first["next"], &first["start"]),
            (&json!("one\ntwo\n"), &json!(8), &json!(true))
        );
        let number = first["file"].as_u64();
        let nothing = new_lines(&path, 8, number).unwrap();
        assert_eq!(
            (&nothing["lines"], &nothing["next"], &nothing["start"]),
            (&json!(""), &json!(8), &json!(false))
        );
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(new_lines(&path, 8, number).unwrap()["lines"], "three\n");
        // Resuming writes the file anew.
        fs::write(folder.path().join("new"), "one\n").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        let again = new_lines(&path, 14, number).unwrap();
        assert_eq!((&again["lines"], &again["start"]), (&json!("one\n"), &json!(true)));
    }
}

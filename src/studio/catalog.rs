//! The models that the server offers, by name. A request names one of them; no path that a request contains is opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::checkpoint::run::Run;
use crate::checkpoint::runs::{self, RUNS};
use crate::lessons::workspace::LESSONS_FOLDER;
use crate::tokenizer::folder::MODEL_CONFIG;

/// Where `import` leaves models, as its examples have it.
const MODELS: &str = "models";

/// A model by name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its name: the path of its folder, as commands take it.
    pub id: String,
    /// Steps that have a checkpoint, ascending; none of a model without a run. `id/step-000100` names one of them.
    pub steps: Vec<u64>,
    /// Seconds since 1970 of its last change.
    pub created: u64,
}

/// Finds models: that of `--checkpoint`, runs, lessons, and imported models.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The model of `--checkpoint`, listed first.
    pub first: Option<PathBuf>,
}

impl Catalog {
    /// The models that there are now: the one of `--checkpoint`, then runs with the newest first, then the days' and imported ones.
    pub fn list(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.first.iter().map(|folder| entry(folder)).collect();
        let mut newest_first = runs_in(Path::new(RUNS));
        newest_first.reverse();
        let mut others = runs_in(Path::new(LESSONS_FOLDER));
        others.sort();
        let mut imported: Vec<PathBuf> = folders_in(Path::new(MODELS))
            .filter(|folder| folder.join(MODEL_CONFIG).is_file())
            .collect();
        imported.sort();
        for folder in newest_first.into_iter().chain(others).chain(imported) {
            let entry = entry(&folder);
            if !entries.iter().any(|other| other.id == entry.id) {
                entries.push(entry);
            }
        }
        entries
    }

    /// The folder of the model with that name; of the first model if there is no name.
    pub fn find(&self, id: Option<&str>) -> Option<PathBuf> {
        let entries = self.list();
        let Some(id) = id else {
            return entries.first().map(|entry| PathBuf::from(&entry.id));
        };
        entries.iter().find_map(|entry| {
            let steps = || entry.steps.iter().map(|step| format!("{}/step-{step:06}", entry.id));
            (entry.id == id || steps().any(|step| step == id)).then(|| PathBuf::from(id))
        })
    }
}

/// The folders of the runs below `folder` that have a checkpoint, ordered by their last write.
fn runs_in(folder: &Path) -> Vec<PathBuf> {
    let runs = runs::list(folder).unwrap_or_default();
    let with_checkpoint = runs.into_iter().filter(|run| run.newest_checkpoint().is_ok());
    with_checkpoint.map(|run| run.folder).collect()
}

fn folders_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

fn entry(folder: &Path) -> Entry {
    let run = Run::open(folder).ok();
    let written = fs::metadata(run.as_ref().map_or(folder.to_owned(), Run::config_path));
    let written = written.and_then(|file| file.modified()).unwrap_or(UNIX_EPOCH);
    Entry {
        id: folder.to_string_lossy().into_owned(),
        steps: run.and_then(|run| run.steps().ok()).unwrap_or_default(),
        created: seconds(written),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

//! A row: a mistake, what is said of it, and the advice followed.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::{stderr, stdout};
use crate::template::{Template, Tree, tree};

/// Lines that follow the advice may change, of a run that goes on.
const OF_A_RUN: [&str; 5] = ["config.toml", "metrics.jsonl", "loss.svg", "latest", "best"];

#[derive(Debug, Default)]
pub struct Row {
    module: String,
    /// Of its first line.
    line: usize,
    /// What must succeed, or else the mistake cannot be made on this system.
    condition: String,
    mistake: String,
    /// `error`, `note`, `warning` or `says`.
    kind: String,
    words: String,
    advice: String,
    /// Files and folders that the advice has the user change.
    changes: Vec<String>,
}

/// The rows of a module's file.
pub fn parse(module: &str, text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = Row::default();
    for (number, line) in text.lines().chain([""]).enumerate() {
        if line.starts_with('#') {
            continue;
        }
        if line.is_empty() {
            if !row.mistake.is_empty() {
                assert!(
                    !row.advice.is_empty(),
                    "{module}.txt:{}: a row without advice",
                    row.line
                );
                rows.push(std::mem::take(&mut row));
            }
            continue;
        }
        let (kind, rest) = line.split_once(' ').unwrap();
        match kind {
            "$" => {
                let commands = if row.words.is_empty() {
                    &mut row.mistake
                } else {
                    &mut row.advice
                };
                if row.module.is_empty() {
                    (row.module, row.line) = (module.to_owned(), number + 1);
                }
                commands.push_str(rest);
                commands.push('\n');
            }
            "?" => row.condition = rest.to_owned(),
            "~" => row.changes = rest.split(' ').map(str::to_owned).collect(),
            "error:" | "usage:" | "note:" | "warning:" | "says:" => {
                row.kind = kind.trim_end_matches(':').to_owned();
                row.words = rest.to_owned();
            }
            _ => panic!("{module}.txt:{}: {line}", number + 1),
        }
    }
    rows
}

impl Row {
    /// Whether `chosen` is empty, its module, or its module and line.
    pub fn is_chosen_by(&self, chosen: &str) -> bool {
        chosen.is_empty() || chosen == self.module || chosen == format!("{}:{}", self.module, self.line)
    }

    pub fn place(&self) -> String {
        format!("tests/advice/{}.txt:{}", self.module, self.line)
    }

    /// Makes the mistake and follows the advice, in a folder of its own; gives what was said.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn attempt(&self, template: &Template) -> Result<String, String> {
        let folder = template.copy(&format!("{}-{}", self.module, self.line));
        if !shell(folder.path(), template, &self.condition).status.success() {
            eprintln!("SKIPPED: {} cannot be tried here", self.place());
            return Ok(self.words.clone());
        }
        let made = shell(folder.path(), template, &self.mistake);
        let said = stderr(&made);
        let text = format!("{}{said}", stdout(&made));
        let last_lines = last_lines(&text);
        self.check_words(&made, &said, &text)
            .map_err(|why| format!("{}{why}:\n{last_lines}", self.mistake))?;
        let before = tree(folder.path());
        let followed = shell(folder.path(), template, &self.advice);
        if !followed.status.success() {
            return Err(format!(
                "{last_lines}the advice does not help:\n{}{}",
                self.advice,
                stderr(&followed)
            ));
        }
        match self.lost(&before, &tree(folder.path())) {
            lost if lost.is_empty() => Ok(text),
            lost => Err(format!(
                "{}{last_lines}{}lost or changed: {}",
                self.mistake,
                self.advice,
                lost.join(", ")
            )),
        }
    }

    fn check_words(&self, made: &Output, said: &str, text: &str) -> Result<(), String> {
        let is_error = self.kind == "error";
        let code = match self.kind.as_str() {
            "error" => 1,
            "usage" => 2,
            _ => 0,
        };
        if made.status.code() != Some(code) {
            return Err(format!("ends with {}", made.status));
        }
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        if is_error && (errors.len() != 1 || said.lines().last() != Some(errors[0])) {
            return Err("not one line that is the error, and the last".into());
        }
        let has = match self.kind.as_str() {
            "error" => errors[0].contains(&self.words),
            "says" | "usage" => text.contains(&self.words),
            kind => said
                .lines()
                .any(|line| line.starts_with(kind) && line.contains(&self.words)),
        };
        match has {
            true => Ok(()),
            false => Err(format!("does not say {:?}", self.words)),
        }
    }

    /// What was there before the advice was followed, and is not there as it was, nor where the advice moved it.
    fn lost(&self, before: &Tree, after: &Tree) -> Vec<String> {
        let goes_on = self.advice.contains("--resume") || self.advice.contains("lesson");
        let kept = |(name, contents): &(&String, &Vec<u8>)| {
            let path = Path::new(name);
            let moved = |(to, now): (&String, &Vec<u8>)| now == *contents && before.get(to) != Some(contents);
            after.get(*name) == Some(contents)
                || self.changes.iter().any(|change| path.starts_with(change))
                || goes_on && after.contains_key(*name) && OF_A_RUN.iter().any(|own| path.ends_with(own))
                || after.iter().any(moved)
        };
        let lost = before.iter().filter(|entry| !kept(entry));
        lost.map(|(name, _)| name.clone()).collect()
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(12)..];
    last.iter().map(|line| format!("{line}\n")).collect()
}

/// Runs commands up to the first that fails.
fn shell(folder: &Path, template: &Template, commands: &str) -> Output {
    Command::new("sh")
        .args(["-ec", commands])
        .current_dir(folder)
        .env("PATH", template.path())
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", folder.join("hub"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

//! A fault at each call by which a command changes files: nothing that was there is lost, nothing half done has a name, the
//! message helps, and what it says to do works.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use super::commands::{WRITERS, Workplace, Writer, part};
use super::injector::{FAULTS, Fault, Injector};
use super::tree::{self, Tree, unfinished};
use crate::common::{number, stderr};
use mlx_gpt::checkpoint;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability.md");
/// The table is between the two in that file.
const MARKS: [&str; 2] = ["<!-- faults -->\n", "<!-- end of faults -->\n"];

/// What came of a command's faults.
#[derive(Default)]
struct Row {
    calls: usize,
    faults: usize,
    /// Processes that were killed; that ended with an error; that came to their end all the same.
    killed: usize,
    failed: usize,
    succeeded: usize,
}

/// The error line with which a command ended.
fn error(output: &Output) -> Result<String, String> {
    let said = stderr(output);
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    match (&errors[..], said.lines().last()) {
        ([error], Some(last)) if error == &last && output.status.code() == Some(1) => Ok((*error).to_owned()),
        _ => Err(format!("no one error line at the end, {}: {said}", output.status)),
    }
}

/// What a message says to do, as a command line, where it is one.
fn advised(error: &str) -> Option<String> {
    let (_, rest) = error.split_once("--resume ")?;
    let run = rest.split([' ', ',', ';', ':', ')']).next()?;
    Some(format!("train --resume {run}"))
}

/// The words that help against a fault.
fn helps(fault: Fault, error: &str) -> bool {
    match fault {
        Fault::Kill => true,
        Fault::Full => error.contains("make space"),
        Fault::Error | Fault::Broken => error.contains("the disk reports errors"),
    }
}

/// What differs between what a command wrote after a fault and what it writes otherwise. A save that failed on the way is
/// missing, and with it what the last one says of it; a checkpoint that could not be removed is one more.
fn differences(found: &Tree, expected: &Tree) -> Vec<String> {
    let newest = expected.keys().filter_map(|name| step(name)).max();
    let on_the_way = |name: &str| step(name).is_some_and(|step| Some(step) != newest);
    let varies = |name: &str| on_the_way(name) || name.ends_with("/state.json") || name.ends_with("/best");
    let has_steps = newest.is_some();
    let names: std::collections::BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    names
        .into_iter()
        .filter(|name| found.get(*name) != expected.get(*name) && !(has_steps && varies(name)))
        .map(|name| {
            let is = |tree: &Tree| {
                tree.get(name)
                    .map_or("not there".into(), |bytes| format!("{} bytes", bytes.len()))
            };
            format!("{name}: {} for {}", is(found), is(expected))
        })
        .collect()
}

/// The step of the checkpoint that a file is of.
fn step(name: &str) -> Option<u64> {
    let (_, rest) = name.split_once("/step-")?;
    rest.split('/').next()?.parse().ok()
}

/// One fault in one command, and what came of it.
struct Trial<'a> {
    workplace: &'a Workplace,
    writer: &'a Writer,
    expected: &'a Tree,
    fault: Fault,
}

impl Trial<'_> {
    fn run(&self, injector: &Injector, number: usize, row: &mut Row) -> Result<(), String> {
        let place = self.workplace.anew();
        let mut command = self.workplace.command(self.writer.arguments);
        injector.inject(&mut command, &place, Some((self.fault, number)));
        let output = command.output().unwrap();
        row.faults += 1;
        let found = tree::tree(&place);
        self.nothing_lost(&found)?;
        let complete = differences(&self.written(), self.expected).is_empty();
        let mut next = Vec::new();
        if output.status.signal().is_some() {
            row.killed += 1;
        } else {
            // On a disk that is broken for good nothing can be removed.
            let cleaned = self.fault != Fault::Broken;
            if cleaned && !unfinished(&found).is_empty() {
                return Err(format!("left {:?}", unfinished(&found)));
            }
            if output.status.success() {
                row.succeeded += 1;
                if self.fault == Fault::Kill || (!complete && !self.writer.goes_on) {
                    return Err("it succeeds without its result".into());
                }
            } else {
                row.failed += 1;
                let error = error(&output)?;
                let names = self.writer.out.split('/').chain(["lessons", "folder ."]);
                if !names.into_iter().any(|name| error.contains(name)) {
                    return Err(format!("nothing is named in: {error}"));
                }
                if !helps(self.fault, &error) {
                    return Err(format!("no remedy in: {error}"));
                }
                if cleaned && !self.writer.goes_on && !complete && !part(&found, self.writer.out, true).is_empty() {
                    return Err(format!("part of the result is there after: {error}"));
                }
                next.extend(advised(&error));
            }
        }
        next.push(self.next_command());
        for advised in &next[..next.len() - 1] {
            let output = self.workplace.command(advised).output().unwrap();
            if !output.status.success() {
                return Err(format!("{advised}: {}", stderr(&output)));
            }
        }
        self.next_works(&next[next.len() - 1])
    }

    /// What the command wrote, at its place.
    fn written(&self) -> Tree {
        tree::tree(&self.workplace.place().join(self.writer.out))
    }

    /// All that was there before is there, but for what the command is for; a run's newest checkpoint is not older.
    fn nothing_lost(&self, found: &Tree) -> Result<(), String> {
        let before = part(&self.workplace.before, self.writer.out, false);
        for (name, bytes) in before {
            if found.get(name) != Some(bytes) {
                return Err(format!("{name} was changed or lost"));
            }
        }
        let newest = |tree: &Tree| {
            let of_it = part(tree, self.writer.out, true);
            of_it.iter().filter_map(|(name, _)| step(name)).max()
        };
        if newest(found) < newest(&self.workplace.before) {
            return Err("its newest checkpoint was lost".into());
        }
        for name in found.keys().filter(|name| name.ends_with("/state.json")) {
            let folder = self.workplace.place().join(name[1..].trim_end_matches("/state.json"));
            if !name.contains("/.making-") {
                checkpoint::verify(&folder).map_err(|error| format!("{name}: {error:#}"))?;
            }
        }
        Ok(())
    }

    /// What a user does next: the same again; a run that has begun goes on.
    fn next_command(&self) -> String {
        let run = self.workplace.place().join(self.writer.out);
        let starts = self.writer.name.starts_with("train") && !self.writer.arguments.contains("--resume");
        match starts && run.join("config.toml").exists() {
            true => format!("train --resume {}", self.writer.out),
            false => self.writer.arguments.to_owned(),
        }
    }

    /// It comes to the result and leaves nothing else; or it says that the result is there.
    fn next_works(&self, next: &str) -> Result<(), String> {
        let output = self.workplace.command(next).output().unwrap();
        let differ = differences(&self.written(), self.expected);
        if !output.status.success() {
            let error = error(&output)?;
            let named = error
                .split_once(" of ")
                .and_then(|(_, rest)| rest.split_once(" is of something else"));
            if let Some((file, _)) = named.filter(|_| error.contains("move that one away")) {
                fs::remove_file(self.workplace.place().join(file)).unwrap();
                return self.next_works(next);
            }
            if !differ.is_empty() || !error.contains("choose another") {
                return Err(format!("{next}: {error}; {differ:?}"));
            }
            let other = "elsewhere/".to_owned() + self.writer.out;
            let followed = next.replace(self.writer.out, &other);
            let output = self.workplace.command(&followed).output().unwrap();
            let written = tree::tree(&self.workplace.place().join(&other));
            if !output.status.success() || !differences(&written, self.expected).is_empty() {
                return Err(format!("{followed}: {}", stderr(&output)));
            }
            fs::remove_dir_all(self.workplace.place().join("elsewhere")).unwrap();
        } else if !differ.is_empty() {
            return Err(format!("{next}: {differ:?}"));
        }
        let found = tree::tree(&self.workplace.place());
        if !unfinished(&found).is_empty() {
            return Err(format!("{next} left {:?}", unfinished(&found)));
        }
        let others = |tree: &Tree| -> Vec<String> {
            let others = part(tree, self.writer.out, false).into_iter();
            others
                .map(|(name, _)| name.clone())
                .filter(|name| !name.ends_with('/'))
                .collect()
        };
        match others(&found) == others(&self.workplace.before) {
            true => Ok(()),
            false => Err(format!("{next}: more than its result is there: {:?}", others(&found))),
        }
    }
}

#[test]
fn a_fault_at_any_call_of_any_command_loses_nothing() {
    let Some(injector) = Injector::compile() else { return };
    let (count, seed) = (number("FAULTS", 1) as usize, number("SEED", 1));
    eprintln!("FAULTS={count} SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let workplace = Workplace::new();
    let only = std::env::var("FAULTS_IN").unwrap_or_default();
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut lost = Vec::new();
    for writer in WRITERS.iter().filter(|writer| writer.name.contains(&only)) {
        let expected = workplace.undisturbed(writer);
        let place = workplace.anew();
        let mut command = workplace.command(writer.arguments);
        injector.inject(&mut command, &place, None);
        assert!(command.output().unwrap().status.success());
        let calls = injector.calls();
        assert!(calls.len() >= 4, "{}: {calls:?}", writer.name);
        assert!(differences(&tree::tree(&place.join(writer.out)), &expected).is_empty());
        let mut row = Row {
            calls: calls.len(),
            ..Row::default()
        };
        for fault in FAULTS {
            let mut numbers: Vec<usize> = (1..=calls.len()).collect();
            numbers.shuffle(&mut rng);
            numbers.truncate(count);
            for number in numbers {
                let trial = Trial {
                    workplace: &workplace,
                    writer,
                    expected: &expected,
                    fault,
                };
                if let Err(what) = trial.run(&injector, number, &mut row) {
                    let call = &calls[number - 1];
                    let what: String = what.replace('\n', " | ").chars().take(400).collect();
                    eprintln!("LOST: {}, {fault:?} at call {number} ({call}): {what}", writer.name);
                    lost.push((writer.name, fault, number));
                }
            }
        }
        eprintln!(
            "{}: {} calls, {} faults: {} killed, {} failed, {} came to their end",
            writer.name, row.calls, row.faults, row.killed, row.failed, row.succeeded
        );
        rows.insert(writer.name, row);
    }
    assert!(lost.is_empty(), "{} of them: {lost:?}", lost.len());
    if only.is_empty() {
        compare_with_docs(&rows);
    }
}

/// The table of `docs/reliability.md`, which `UPDATE_DOCS=1` writes; in any case it has a row for each command.
fn compare_with_docs(rows: &BTreeMap<&str, Row>) {
    let docs = fs::read_to_string(DOCS).unwrap();
    let (before, rest) = docs.split_once(MARKS[0]).unwrap();
    let (table, after) = rest.split_once(MARKS[1]).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let mut table = "| command | calls | faults | killed | failed | went on | lost |\n| --- | --: | --: | --: | --: | --: | --: |\n"
            .to_owned();
        for writer in &WRITERS {
            let Row {
                calls,
                faults,
                killed,
                failed,
                succeeded,
            } = &rows[writer.name];
            table += &format!(
                "| `{}` | {calls} | {faults} | {killed} | {failed} | {succeeded} | 0 |\n",
                writer.name
            );
        }
        let [begin, end] = MARKS;
        return fs::write(DOCS, format!("{before}{begin}\n{table}\n{end}{after}")).unwrap();
    }
    for writer in &WRITERS {
        assert!(
            table.contains(&format!("| `{}` |", writer.name)),
            "{} is not in {DOCS}",
            writer.name
        );
    }
}
